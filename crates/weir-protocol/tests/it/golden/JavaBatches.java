// Prints java_batches.txt. With kafka-clients 4.1.0, snappy-java, lz4-java and zstd-jni on the class path
// (scripts/kafka.sh fetches them): java -cp '.cache/kafka/libs/*' JavaBatches.java
// With the name of a file of such lines it reads them and prints what Java sees.

import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.HexFormat;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.record.*;

public class JavaBatches {
    static byte[] utf8(String text) {
        return text.getBytes(StandardCharsets.UTF_8);
    }

    static void print(String name, ByteBuffer batch) {
        byte[] bytes = new byte[batch.remaining()];
        batch.duplicate().get(bytes);
        System.out.println(name + " " + HexFormat.of().formatHex(bytes));
    }

    static ByteBuffer data(Compression compression) {
        MemoryRecordsBuilder builder = new MemoryRecordsBuilder(ByteBuffer.allocate(512), (byte) 2, compression,
            TimestampType.CREATE_TIME, 0L, -1L, 4711L, (short) 3, Integer.MAX_VALUE - 1, true, false, -1, 1 << 20);
        builder.append(1790000000000L, utf8("dev-1"), utf8("{\"value\":21.50,\"room\":\"R12\"}".repeat(12)),
            new Header[] {new RecordHeader("event-type", utf8("sensor.temperature")), new RecordHeader("trace_id", (byte[]) null)});
        builder.append(1790000000300L, null, utf8("流"), new Header[0]);
        builder.append(1789999999999L, utf8(""), null, new Header[0]);
        return builder.build().buffer();
    }

    static void read(String name, byte[] bytes) {
        for (MutableRecordBatch batch : MemoryRecords.readableRecords(ByteBuffer.wrap(bytes)).batches()) {
            batch.ensureValid();
            System.out.println(name + ": " + batch);
            for (org.apache.kafka.common.record.Record record : batch) {
                record.ensureValid();
                System.out.println("  " + record + " " + Arrays.toString(record.headers()));
            }
        }
    }

    public static void main(String[] args) throws Exception {
        if (args.length > 0) {
            for (String line : Files.readAllLines(Path.of(args[0]))) {
                String[] parts = line.split(" ");
                read(parts[0], HexFormat.of().parseHex(parts[1]));
            }
            return;
        }
        print("none", data(Compression.NONE));
        print("gzip", data(Compression.gzip().build()));
        print("snappy", data(Compression.snappy().build()));
        print("lz4", data(Compression.lz4().build()));
        print("zstd", data(Compression.zstd().build()));
        print("commit", MemoryRecords.withEndTransactionMarker(7L, 1790000000000L, 5, 4711L, (short) 3,
            new EndTransactionMarker(ControlRecordType.COMMIT, 9)).buffer());
        print("abort", MemoryRecords.withEndTransactionMarker(0L, 1790000000000L, -1, 4711L, (short) 3,
            new EndTransactionMarker(ControlRecordType.ABORT, 9)).buffer());
    }
}
