// Kafka's own client in the scenario of scripts/clients.py. The protocol is in ../driver.py.

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.Properties;
import java.util.TreeMap;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import org.apache.kafka.clients.admin.Admin;
import org.apache.kafka.clients.admin.ConsumerGroupDescription;
import org.apache.kafka.clients.admin.NewTopic;
import org.apache.kafka.clients.admin.RecordsToDelete;
import org.apache.kafka.clients.consumer.ConsumerRecord;
import org.apache.kafka.clients.consumer.ConsumerRecords;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.header.Header;
import org.apache.kafka.common.utils.AppInfoParser;

public class Client {
    static final ObjectMapper JSON = new ObjectMapper();
    static final String STRINGS = "org.apache.kafka.common.serialization.String";
    static String address;

    public static void main(String[] args) throws Exception {
        address = args[0];
        emit(Map.of("client", "Java kafka-clients " + AppInfoParser.getVersion(),
            "codecs", List.of("none", "gzip", "snappy", "lz4", "zstd"), "protocols", List.of("classic", "consumer"),
            "can", List.of("create", "idempotence", "commit", "abort", "read_committed", "groups", "describe", "delete_records")));
        BufferedReader in = new BufferedReader(new InputStreamReader(System.in, StandardCharsets.UTF_8));
        for (String line = in.readLine(); line != null; line = in.readLine()) {
            JsonNode command = JSON.readTree(line);
            try {
                Map<String, Object> answer = new HashMap<>(answer(command, in));
                answer.put("done", true);
                emit(answer);
            } catch (Exception error) {
                error.printStackTrace();
                emit(Map.of("error", error.toString()));
            }
            if (command.get("do").asText().equals("consume")) {
                return;
            }
        }
    }

    static Map<String, Object> answer(JsonNode command, BufferedReader in) throws Exception {
        return switch (command.get("do").asText()) {
            case "create" -> create(command);
            case "produce" -> produce(command);
            case "transaction" -> transaction(command);
            case "groups" -> groups();
            case "describe" -> describe(command);
            case "delete_records" -> deleteRecords(command);
            case "consume" -> consume(command, in);
            default -> throw new IllegalArgumentException(command.toString());
        };
    }

    static Map<String, Object> create(JsonNode command) throws Exception {
        try (Admin admin = admin()) {
            NewTopic topic = new NewTopic(command.get("topic").asText(), command.get("partitions").asInt(), (short) 1);
            admin.createTopics(List.of(topic)).all().get();
        }
        return Map.of();
    }

    static Map<String, Object> produce(JsonNode command) throws Exception {
        try (KafkaProducer<String, String> producer = producer(Map.of("compression.type", command.get("codec").asText()))) {
            send(producer, command);
        }
        return Map.of();
    }

    static Map<String, Object> transaction(JsonNode command) throws Exception {
        try (KafkaProducer<String, String> producer = producer(Map.of("transactional.id", command.get("id").asText()))) {
            producer.initTransactions();
            producer.beginTransaction();
            send(producer, command);
            if (command.get("end").asText().equals("commit")) {
                producer.commitTransaction();
            } else {
                producer.abortTransaction();
            }
        }
        return Map.of();
    }

    static void send(KafkaProducer<String, String> producer, JsonNode command) throws Exception {
        List<Future<RecordMetadata>> sent = new ArrayList<>();
        for (JsonNode line : command.get("records")) {
            ProducerRecord<String, String> record = new ProducerRecord<>(
                command.get("topic").asText(), line.get(0).asInt(), line.get(1).asText(), line.get(2).asText());
            for (JsonNode header : line.get(3)) {
                record.headers().add(header.get(0).asText(), header.get(1).asText().getBytes(StandardCharsets.UTF_8));
            }
            sent.add(producer.send(record));
        }
        producer.flush();
        for (Future<RecordMetadata> one : sent) {
            one.get();
        }
    }

    static Map<String, Object> groups() throws Exception {
        try (Admin admin = admin()) {
            return Map.of("groups", admin.listGroups().all().get().stream().map(group -> group.groupId()).toList());
        }
    }

    static Map<String, Object> describe(JsonNode command) throws Exception {
        String group = command.get("group").asText();
        try (Admin admin = admin()) {
            ConsumerGroupDescription described = admin.describeConsumerGroups(List.of(group)).all().get().get(group);
            Map<String, Object> members = new TreeMap<>();
            described.members().forEach(member -> members.put(member.clientId(),
                member.assignment().topicPartitions().stream().map(TopicPartition::partition).toList()));
            return Map.of("state", described.groupState().toString(), "members", members);
        }
    }

    static Map<String, Object> deleteRecords(JsonNode command) throws Exception {
        TopicPartition part = new TopicPartition(command.get("topic").asText(), command.get("partition").asInt());
        try (Admin admin = admin()) {
            admin.deleteRecords(Map.of(part, RecordsToDelete.beforeOffset(command.get("offset").asLong()))).all().get();
        }
        return Map.of();
    }

    static Map<String, Object> consume(JsonNode command, BufferedReader in) throws Exception {
        Properties config = new Properties();
        config.put("bootstrap.servers", address);
        config.put("group.id", command.get("group").asText());
        config.put("client.id", command.get("client_id").asText());
        config.put("group.protocol", command.get("protocol").asText());
        config.put("auto.offset.reset", "earliest");
        config.put("enable.auto.commit", false);
        config.put("fetch.max.wait.ms", 100);
        config.put("isolation.level", command.get("read_committed").asBoolean() ? "read_committed" : "read_uncommitted");
        config.put("key.deserializer", STRINGS + "Deserializer");
        config.put("value.deserializer", STRINGS + "Deserializer");
        if (command.get("protocol").asText().equals("classic")) {
            config.put("heartbeat.interval.ms", 500);
        }
        AtomicBoolean leaving = new AtomicBoolean();
        Thread listener = new Thread(() -> {
            try {
                in.readLine();
            } catch (java.io.IOException error) {
                error.printStackTrace();
            }
            leaving.set(true);
        });
        listener.setDaemon(true);
        listener.start();
        try (KafkaConsumer<String, String> consumer = new KafkaConsumer<>(config)) {
            consumer.subscribe(List.of(command.get("topic").asText()));
            while (!leaving.get()) {
                ConsumerRecords<String, String> records = consumer.poll(Duration.ofMillis(100));
                if (!records.isEmpty()) {
                    consumer.commitSync();
                }
                for (ConsumerRecord<String, String> record : records) {
                    List<List<String>> headers = new ArrayList<>();
                    for (Header header : record.headers()) {
                        headers.add(List.of(header.key(), new String(header.value(), StandardCharsets.UTF_8)));
                    }
                    emit(Map.of("record", List.of(record.partition(), record.offset(), record.key(), record.value(), headers)));
                }
            }
        }
        return Map.of();
    }

    static Admin admin() {
        return Admin.create(Map.of("bootstrap.servers", address));
    }

    static KafkaProducer<String, String> producer(Map<String, Object> options) {
        Properties config = new Properties();
        config.put("bootstrap.servers", address);
        config.put("linger.ms", 5);
        config.put("key.serializer", STRINGS + "Serializer");
        config.put("value.serializer", STRINGS + "Serializer");
        config.putAll(options);
        return new KafkaProducer<>(config);
    }

    static void emit(Map<String, ?> answer) throws java.io.IOException {
        System.out.println(JSON.writeValueAsString(answer));
        System.out.flush();
    }
}
