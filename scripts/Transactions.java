// Transactions of Kafka's own client, which follows version 2 where the broker has it. Run by scripts/transactions.py.

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.Set;
import java.util.concurrent.ExecutionException;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.consumer.ConsumerGroupMetadata;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.consumer.OffsetAndMetadata;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.KafkaException;
import org.apache.kafka.common.TopicPartition;

public class Transactions {
    static final String STRINGS = "org.apache.kafka.common.serialization.String";

    public static void main(String[] args) throws Exception {
        String address = args[0];
        String id = "java-" + System.nanoTime();
        try (Admin admin = Admin.create(Map.of("bootstrap.servers", address))) {
            short level = admin.describeFeatures().featureMetadata().get()
                .finalizedFeatures().get("transaction.version").maxVersionLevel();
            check(level == 2, "transaction.version is finalized at 2");
            admin.createTopics(List.of(new NewTopic(id, 2, (short) 1))).all().get();
            commitAndAbort(address, id, admin);
            fence(address, id, admin);
        }
    }

    static void commitAndAbort(String address, String id, Admin admin) throws Exception {
        try (KafkaProducer<String, String> producer = producer(address, id)) {
            producer.initTransactions();
            int epoch = epoch(admin, id);
            for (int n = 0; n < 20; n++) {
                producer.beginTransaction();
                for (int partition = 0; partition < 2; partition++) {
                    producer.send(new ProducerRecord<>(id, partition, null, "java " + n));
                }
                TopicPartition part = new TopicPartition(id, 0);
                producer.sendOffsetsToTransaction(
                    Map.of(part, new OffsetAndMetadata(n)), new ConsumerGroupMetadata(id));
                if (n % 4 == 3) {
                    producer.abortTransaction();
                } else {
                    producer.commitTransaction();
                }
            }
            check(epoch(admin, id) == epoch + 20, "each end has raised the epoch (KIP-890)");
        }
        List<String> seen = read(address, id);
        check(seen.size() == 30, "15 transactions are seen in both partitions: " + seen.size());
        OffsetAndMetadata offset = admin.listConsumerGroupOffsets(id).partitionsToOffsetAndMetadata().get()
            .get(new TopicPartition(id, 0));
        check(offset.offset() == 18, "the last committed offset is that of the last commit");
    }

    static void fence(String address, String id, Admin admin) throws Exception {
        try (KafkaProducer<String, String> old = producer(address, id);
             KafkaProducer<String, String> young = producer(address, id)) {
            old.initTransactions();
            old.beginTransaction();
            old.send(new ProducerRecord<>(id, 0, null, "zombie")).get();
            young.initTransactions();
            boolean fenced = false;
            try {
                old.send(new ProducerRecord<>(id, 0, null, "zombie")).get();
                old.commitTransaction();
            } catch (ExecutionException | KafkaException error) {
                fenced = true;
            }
            check(fenced, "a second producer fences the first");
            young.beginTransaction();
            young.send(new ProducerRecord<>(id, 0, null, "young"));
            young.commitTransaction();
        }
        List<String> seen = read(address, id);
        check(seen.contains("young") && !seen.contains("zombie"), "only what the second one wrote is seen");
        check(admin.listTransactions().all().get().stream().anyMatch(t -> t.transactionalId().equals(id)),
            "the transactional id is listed");
    }

    static int epoch(Admin admin, String id) throws Exception {
        return admin.describeTransactions(Set.of(id)).description(id).get().producerEpoch();
    }

    static KafkaProducer<String, String> producer(String address, String id) {
        Properties config = new Properties();
        config.put("bootstrap.servers", address);
        config.put("transactional.id", id);
        config.put("key.serializer", STRINGS + "Serializer");
        config.put("value.serializer", STRINGS + "Serializer");
        return new KafkaProducer<>(config);
    }

    static List<String> read(String address, String topic) {
        Properties config = new Properties();
        config.put("bootstrap.servers", address);
        config.put("isolation.level", "read_committed");
        config.put("key.deserializer", STRINGS + "Deserializer");
        config.put("value.deserializer", STRINGS + "Deserializer");
        List<String> seen = new ArrayList<>();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config)) {
            List<TopicPartition> parts = List.of(new TopicPartition(topic, 0), new TopicPartition(topic, 1));
            consumer.assign(parts);
            consumer.seekToBeginning(parts);
            Map<TopicPartition, Long> ends = consumer.endOffsets(parts);
            long deadline = System.nanoTime() + Duration.ofSeconds(60).toNanos();
            while (parts.stream().anyMatch(part -> consumer.position(part) < ends.get(part))) {
                check(System.nanoTime() < deadline, "the reader comes to the end");
                consumer.poll(Duration.ofMillis(200)).forEach(record -> seen.add(record.value()));
            }
        }
        return seen;
    }

    static void check(boolean holds, String what) {
        if (!holds) {
            System.out.println("FAILED: " + what);
            System.exit(1);
        }
        if (!what.startsWith("the reader")) {
            System.out.println("ok: " + what);
        }
    }
}
