// Kafka's own message classes as a codec for scripts/compare.py: one JSON request a line on stdin, one JSON answer a line
// on stdout. The comparison so reads and writes every message with Kafka's code and with none of weir's.
//
//   {"op": "apis"}                                                        the APIs of this version of Kafka
//   {"op": "errors"}                                                      its error codes and their names
//   {"op": "schema", "api": 1, "version": 4}                              the fields of a request
//   {"op": "header", "api": 1, "version": 4}                              the version of its request header
//   {"op": "encode", "api": 1, "version": 4, "correlation": 7, "client": "c", "body": {...}}     a frame, in hex
//   {"op": "decode", "api": 1, "version": 4, "hex": "..."}                an answer; "rest" counts bytes that are left over
//   {"op": "batch", ...}                                                  a record batch, in hex
//   {"op": "recrc", "hex": "..."}                                         a record batch with its checksum made right again
//
// Fields of a body are named as in Kafka's message definitions. Those that the version lacks are left out, those that the
// body lacks have Kafka's own defaults. Bytes are hex.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.JsonNodeFactory;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.io.PrintStream;
import java.lang.reflect.Field;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.ParameterizedType;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HexFormat;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.common.Uuid;
import org.apache.kafka.common.compress.Compression;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.header.internals.RecordHeader;
import org.apache.kafka.common.message.ApiMessageType;
import org.apache.kafka.common.message.FetchResponseData;
import org.apache.kafka.common.message.RequestHeaderData;
import org.apache.kafka.common.message.ResponseHeaderData;
import org.apache.kafka.common.protocol.ApiMessage;
import org.apache.kafka.common.protocol.ByteBufferAccessor;
import org.apache.kafka.common.protocol.Errors;
import org.apache.kafka.common.protocol.MessageUtil;
import org.apache.kafka.common.protocol.types.BoundField;
import org.apache.kafka.common.protocol.types.Schema;
import org.apache.kafka.common.protocol.types.TaggedFields;
import org.apache.kafka.common.protocol.types.Type;
import org.apache.kafka.common.record.BaseRecords;
import org.apache.kafka.common.record.CompressionType;
import org.apache.kafka.common.record.MemoryRecords;
import org.apache.kafka.common.record.MutableRecordBatch;
import org.apache.kafka.common.record.Record;
import org.apache.kafka.common.record.SimpleRecord;
import org.apache.kafka.common.record.TimestampType;
import org.apache.kafka.common.utils.Crc32C;
import org.apache.kafka.common.utils.ImplicitLinkedHashCollection;

public class Codec {
    static final ObjectMapper JSON = new ObjectMapper();
    static final JsonNodeFactory NODES = JsonNodeFactory.instance;
    static final HexFormat HEX = HexFormat.of();
    /** The time of records that have none of their own: retention would take older ones away at some moment of the run. */
    static final long NOW_MS = System.currentTimeMillis();
    static final int CRC_AT = 17;
    static final int CHECKED_FROM = 21;

    public static void main(String[] args) throws Exception {
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode answer;
            try {
                answer = answer(JSON.readTree(line));
            } catch (InvocationTargetException error) {
                answer = NODES.objectNode().put("error", String.valueOf(error.getCause()));
            } catch (Exception error) {
                answer = NODES.objectNode().put("error", String.valueOf(error));
            }
            out.println(JSON.writeValueAsString(answer));
            out.flush();
        }
    }

    static JsonNode answer(JsonNode ask) throws Exception {
        switch (ask.get("op").asText()) {
            case "apis": return apis();
            case "errors": return errors();
            case "schema": return fields(requestClass(ask), version(ask));
            case "header": return NODES.objectNode().put("request", type(ask).requestHeaderVersion(version(ask)));
            case "encode": return encode(ask);
            case "decode": return decode(ask);
            case "batch": return batch(ask);
            case "recrc": return recrc(ask);
            default: throw new IllegalArgumentException("unknown op");
        }
    }

    static ApiMessageType type(JsonNode ask) {
        return ApiMessageType.fromApiKey((short) ask.get("api").asInt());
    }

    static short version(JsonNode ask) {
        return (short) ask.get("version").asInt();
    }

    static Class<?> requestClass(JsonNode ask) {
        return type(ask).newRequest().getClass();
    }

    static JsonNode apis() {
        ObjectNode apis = NODES.objectNode();
        for (ApiMessageType type : ApiMessageType.values()) {
            apis.put(String.valueOf(type.apiKey()), type.name);
        }
        return apis;
    }

    static JsonNode errors() {
        ObjectNode errors = NODES.objectNode();
        for (Errors error : Errors.values()) {
            errors.put(String.valueOf(error.code()), error.name());
        }
        return errors;
    }

    // ---- requests

    static JsonNode encode(JsonNode ask) throws Exception {
        ApiMessageType type = type(ask);
        short version = version(ask);
        RequestHeaderData header = new RequestHeaderData()
            .setRequestApiKey(type.apiKey()).setRequestApiVersion(version)
            .setCorrelationId(ask.get("correlation").asInt()).setClientId(ask.get("client").textValue());
        ByteBuffer head = MessageUtil.toByteBufferAccessor(header, type.requestHeaderVersion(version)).buffer();
        ApiMessage body = (ApiMessage) struct(requestClass(ask), ask.get("body"), version);
        ByteBuffer tail = MessageUtil.toByteBufferAccessor(body, version).buffer();
        return NODES.objectNode().put("hex", hex(head) + hex(tail)).put("header_bytes", head.limit());
    }

    /** An object of one of Kafka's generated classes with the fields that the body gives and the version has. */
    static Object struct(Class<?> type, JsonNode body, short version) throws Exception {
        Object made = type.getDeclaredConstructor().newInstance();
        Map<String, Type> known = types(type, version);
        List<String> names = new ArrayList<>();
        body.fieldNames().forEachRemaining(names::add);
        for (String name : names) {
            Field field;
            try {
                field = type.getDeclaredField(name);
            } catch (NoSuchFieldException error) {
                throw new IllegalArgumentException(type.getSimpleName() + " has no field " + name);
            }
            if (known.containsKey(plain(name))) {
                field.setAccessible(true);
                field.set(made, value(field, body.get(name), version));
            }
        }
        return made;
    }

    static Object value(Field field, JsonNode node, short version) throws Exception {
        Class<?> type = field.getType();
        if (node.isNull()) {
            return null;
        } else if (ImplicitLinkedHashCollection.class.isAssignableFrom(type)) {
            return collection(type, node, version);
        } else if (List.class.isAssignableFrom(type)) {
            Class<?> element = (Class<?>) ((ParameterizedType) field.getGenericType()).getActualTypeArguments()[0];
            List<Object> list = new ArrayList<>();
            for (JsonNode item : node) {
                list.add(single(element, item, version));
            }
            return list;
        }
        return single(type, node, version);
    }

    @SuppressWarnings({"unchecked", "rawtypes"})
    static Object collection(Class<?> type, JsonNode node, short version) throws Exception {
        ImplicitLinkedHashCollection list = (ImplicitLinkedHashCollection) type.getDeclaredConstructor().newInstance();
        Class<?> element = (Class<?>) ((ParameterizedType) type.getGenericSuperclass()).getActualTypeArguments()[0];
        for (JsonNode item : node) {
            list.mustAdd((ImplicitLinkedHashCollection.Element) struct(element, item, version));
        }
        return list;
    }

    static Object single(Class<?> type, JsonNode node, short version) throws Exception {
        if (type == String.class) return node.asText();
        if (type == boolean.class || type == Boolean.class) return node.asBoolean();
        if (type == byte.class || type == Byte.class) return (byte) node.asInt();
        if (type == short.class || type == Short.class) return (short) node.asInt();
        if (type == int.class || type == Integer.class) return node.asInt();
        if (type == long.class || type == Long.class) return node.asLong();
        if (type == double.class || type == Double.class) return node.asDouble();
        if (type == Uuid.class) return Uuid.fromString(node.asText());
        if (type == byte[].class) return HEX.parseHex(node.asText());
        if (type == ByteBuffer.class) return ByteBuffer.wrap(HEX.parseHex(node.asText()));
        if (type == BaseRecords.class) return MemoryRecords.readableRecords(ByteBuffer.wrap(HEX.parseHex(node.asText())));
        return struct(type, node, version);
    }

    // ---- what fields there are

    /** The types of the fields that a version has, by their names without case and underscores. */
    static Map<String, Type> types(Class<?> type, short version) throws Exception {
        Schema schema = ((Schema[]) type.getField("SCHEMAS").get(null))[version];
        Map<String, Type> types = new TreeMap<>();
        for (BoundField field : schema.fields()) {
            if (field.def.type instanceof TaggedFields) {
                ((TaggedFields) field.def.type).fields().values().forEach(tagged -> types.put(plain(tagged.name), tagged.type));
            } else {
                types.put(plain(field.def.name), field.def.type);
            }
        }
        return types;
    }

    static String plain(String name) {
        return name.replace("_", "").toLowerCase();
    }

    static JsonNode fields(Class<?> type, short version) throws Exception {
        Map<String, Type> known = types(type, version);
        ArrayNode fields = NODES.arrayNode();
        for (Field field : type.getDeclaredFields()) {
            Type wire = known.get(plain(field.getName()));
            if (wire == null) {
                continue;
            }
            ObjectNode told = fields.addObject().put("name", field.getName()).put("nullable", wire.isNullable());
            Class<?> element = field.getType();
            if (wire.isArray()) {
                told.put("array", true);
                java.lang.reflect.Type generic = List.class.isAssignableFrom(element)
                    ? field.getGenericType() : element.getGenericSuperclass();
                element = (Class<?>) ((ParameterizedType) generic).getActualTypeArguments()[0];
            }
            if (ApiMessage.class.isAssignableFrom(element) || hasSchemas(element)) {
                told.put("type", "struct").set("fields", fields(element, version));
            } else {
                told.put("type", element.getSimpleName().toLowerCase().replace("integer", "int"));
            }
        }
        return fields;
    }

    static boolean hasSchemas(Class<?> type) {
        try {
            type.getField("SCHEMAS");
            return true;
        } catch (NoSuchFieldException error) {
            return false;
        }
    }

    // ---- answers

    static JsonNode decode(JsonNode ask) throws Exception {
        ApiMessageType type = type(ask);
        short version = version(ask);
        ByteBuffer bytes = ByteBuffer.wrap(HEX.parseHex(ask.get("hex").asText()));
        ByteBufferAccessor readable = new ByteBufferAccessor(bytes);
        ResponseHeaderData header = new ResponseHeaderData(readable, type.responseHeaderVersion(version));
        ApiMessage body = type.newResponse();
        body.read(readable, version);
        Class<?> converter = Class.forName(body.getClass().getName() + "JsonConverter");
        Method write = converter.getMethod("write", body.getClass(), short.class, boolean.class);
        JsonNode json = hexed((JsonNode) write.invoke(null, body, version, true));
        if (body instanceof FetchResponseData) {
            putBatches((FetchResponseData) body, json);
        }
        ObjectNode answer = NODES.objectNode().put("correlation", header.correlationId()).put("rest", bytes.remaining());
        answer.set("body", json);
        return answer;
    }

    /** Kafka's converter leaves records out: they are put in, taken apart. */
    static void putBatches(FetchResponseData body, JsonNode json) {
        for (int topic = 0; topic < body.responses().size(); topic++) {
            List<FetchResponseData.PartitionData> partitions = body.responses().get(topic).partitions();
            for (int n = 0; n < partitions.size(); n++) {
                MemoryRecords records = (MemoryRecords) partitions.get(n).records();
                ObjectNode told = (ObjectNode) json.get("responses").get(topic).get("partitions").get(n);
                told.set("records", records == null ? NODES.nullNode() : batches(records));
            }
        }
    }

    /** The same with bytes as hex. */
    static JsonNode hexed(JsonNode node) throws Exception {
        if (node.isObject()) {
            ObjectNode object = (ObjectNode) node;
            List<String> names = new ArrayList<>();
            object.fieldNames().forEachRemaining(names::add);
            for (String name : names) {
                JsonNode value = object.get(name);
                object.set(name, hexed(value));
            }
        } else if (node.isArray()) {
            ArrayNode array = (ArrayNode) node;
            for (int n = 0; n < array.size(); n++) {
                array.set(n, hexed(array.get(n)));
            }
        } else if (node.isBinary()) {
            return NODES.textNode(HEX.formatHex(node.binaryValue()));
        }
        return node;
    }

    static JsonNode batches(MemoryRecords records) {
        ArrayNode batches = NODES.arrayNode();
        for (MutableRecordBatch batch : records.batches()) {
            batch.ensureValid();
            ObjectNode told = batches.addObject()
                .put("baseOffset", batch.baseOffset()).put("lastOffset", batch.lastOffset()).put("magic", batch.magic())
                .put("partitionLeaderEpoch", batch.partitionLeaderEpoch()).put("producerId", batch.producerId())
                .put("producerEpoch", batch.producerEpoch()).put("baseSequence", batch.baseSequence())
                .put("transactional", batch.isTransactional()).put("control", batch.isControlBatch())
                .put("compression", batch.compressionType().name).put("timestampType", batch.timestampType().name)
                .put("maxTimestamp", batch.maxTimestamp());
            ArrayNode list = told.putArray("list");
            for (Record record : batch) {
                ObjectNode one = list.addObject().put("offset", record.offset()).put("timestamp", record.timestamp())
                    .put("key", hex(record.key())).put("value", hex(record.value()));
                for (Header header : record.headers()) {
                    one.withObject("/headers").put(header.key(), header.value() == null ? null : HEX.formatHex(header.value()));
                }
            }
        }
        if (records.sizeInBytes() > records.validBytes()) {
            batches.add("part of a batch");
        }
        return batches;
    }

    // ---- record batches

    static JsonNode batch(JsonNode ask) {
        List<SimpleRecord> records = new ArrayList<>();
        for (JsonNode record : ask.get("records")) {
            List<Header> headers = new ArrayList<>();
            record.path("headers").fields().forEachRemaining(
                header -> headers.add(new RecordHeader(header.getKey(), bytes(header.getValue().textValue()))));
            records.add(new SimpleRecord(record.path("timestamp").asLong(NOW_MS), bytes(record.path("key").textValue()),
                bytes(record.path("value").textValue()), headers.toArray(new Header[0])));
        }
        MemoryRecords made = MemoryRecords.withRecords((byte) ask.path("magic").asInt(2), ask.path("base_offset").asLong(0),
            Compression.of(CompressionType.forName(ask.path("compression").asText("none"))).build(), TimestampType.CREATE_TIME,
            ask.path("producer_id").asLong(-1), (short) ask.path("producer_epoch").asInt(-1), ask.path("base_sequence").asInt(-1),
            ask.path("leader_epoch").asInt(-1), ask.path("transactional").asBoolean(false), records.toArray(new SimpleRecord[0]));
        return NODES.objectNode().put("hex", hex(made.buffer()));
    }

    static JsonNode recrc(JsonNode ask) {
        byte[] batch = HEX.parseHex(ask.get("hex").asText());
        int crc = (int) Crc32C.compute(batch, CHECKED_FROM, batch.length - CHECKED_FROM);
        ByteBuffer.wrap(batch).putInt(CRC_AT, crc);
        return NODES.objectNode().put("hex", HEX.formatHex(batch));
    }

    static byte[] bytes(String text) {
        return text == null ? null : text.getBytes(StandardCharsets.UTF_8);
    }

    static String hex(ByteBuffer buffer) {
        if (buffer == null) {
            return null;
        }
        byte[] bytes = new byte[buffer.remaining()];
        buffer.duplicate().get(bytes);
        return HEX.formatHex(bytes);
    }
}
