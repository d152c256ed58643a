// segmentio's kafka-go in the scenario of scripts/clients.py.
package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/segmentio/kafka-go"

	"weir.clients/driver"
)

// A topic that another client has just made is unknown to it for as long as it keeps metadata.
var (
	transport = &kafka.Transport{MetadataTTL: 100 * time.Millisecond}
	client    = &kafka.Client{Addr: kafka.TCP(os.Args[1]), Timeout: 20 * time.Second, Transport: transport}
)

func create(ctx context.Context, command driver.Command) (driver.Answer, error) {
	topic := kafka.TopicConfig{Topic: command.Topic, NumPartitions: int(command.Partitions), ReplicationFactor: 1}
	answer, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
	if err != nil {
		return nil, err
	}
	return nil, answer.Errors[command.Topic]
}

// The partition is the caller's, which a writer only learns through its balancer.
func produce(ctx context.Context, command driver.Command) (driver.Answer, error) {
	codecs := map[string]kafka.Compression{"gzip": kafka.Gzip, "snappy": kafka.Snappy, "lz4": kafka.Lz4, "zstd": kafka.Zstd}
	partitions := map[string]int{}
	var messages []kafka.Message
	for _, record := range command.Records {
		partitions[record.Key] = int(record.Partition)
		var headers []kafka.Header
		for _, header := range record.Headers {
			headers = append(headers, kafka.Header{Key: header[0], Value: []byte(header[1])})
		}
		messages = append(messages, kafka.Message{Key: []byte(record.Key), Value: []byte(record.Value), Headers: headers})
	}
	writer := &kafka.Writer{
		Addr: client.Addr, Topic: command.Topic, Compression: codecs[command.Codec], RequiredAcks: kafka.RequireAll,
		BatchTimeout: 5 * time.Millisecond, Transport: transport,
		Balancer: kafka.BalancerFunc(func(message kafka.Message, _ ...int) int { return partitions[string(message.Key)] }),
	}
	defer writer.Close()
	return nil, writer.WriteMessages(ctx, messages...)
}

func groups(ctx context.Context, _ driver.Command) (driver.Answer, error) {
	answer, err := client.ListGroups(ctx, &kafka.ListGroupsRequest{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, group := range answer.Groups {
		names = append(names, group.GroupID)
	}
	return driver.Answer{"groups": names}, answer.Error
}

func describe(ctx context.Context, command driver.Command) (driver.Answer, error) {
	answer, err := client.DescribeGroups(ctx, &kafka.DescribeGroupsRequest{GroupIDs: []string{command.Group}})
	if err != nil {
		return nil, err
	}
	group := answer.Groups[0]
	members := map[string][]int{}
	for _, member := range group.Members {
		for _, topic := range member.MemberAssignments.Topics {
			members[member.ClientID] = append(members[member.ClientID], topic.Partitions...)
		}
	}
	return driver.Answer{"state": group.GroupState, "members": members}, group.Error
}

func consume(ctx context.Context, command driver.Command) (driver.Answer, error) {
	group, err := kafka.NewConsumerGroup(kafka.ConsumerGroupConfig{
		ID: command.Group, Brokers: []string{os.Args[1]}, Topics: []string{command.Topic}, StartOffset: kafka.FirstOffset,
		HeartbeatInterval: 500 * time.Millisecond, JoinGroupBackoff: 500 * time.Millisecond,
		Dialer: &kafka.Dialer{ClientID: command.ClientID, Timeout: 10 * time.Second},
	})
	if err != nil {
		return nil, err
	}
	faults := make(chan error, 64)
	for ctx.Err() == nil && len(faults) == 0 {
		generation, err := group.Next(ctx)
		if errors.Is(err, context.Canceled) {
			break
		}
		if err != nil {
			// As its own Reader does: it tells of failed rounds of joining and goes on.
			continue
		}
		for _, assigned := range generation.Assignments[command.Topic] {
			generation.Start(func(running context.Context) {
				if err := read(running, command, generation, assigned); err != nil && running.Err() == nil {
					faults <- err
				}
			})
		}
	}
	err = group.Close()
	select {
	case fault := <-faults:
		return nil, fault
	default:
		return nil, err
	}
}

var committing sync.Mutex

// Reads one partition until the generation ends.
func read(ctx context.Context, command driver.Command, generation *kafka.Generation, assigned kafka.PartitionAssignment) error {
	isolation := kafka.ReadUncommitted
	if command.ReadCommitted {
		isolation = kafka.ReadCommitted
	}
	reader := kafka.NewReader(kafka.ReaderConfig{
		Brokers: []string{os.Args[1]}, Topic: command.Topic, Partition: assigned.ID, MaxWait: 100 * time.Millisecond,
		IsolationLevel: isolation, ReadBackoffMin: 10 * time.Millisecond,
	})
	defer reader.Close()
	if err := reader.SetOffset(assigned.Offset); err != nil {
		return err
	}
	for {
		message, err := reader.ReadMessage(ctx)
		if err != nil {
			return err
		}
		committing.Lock()
		err = generation.CommitOffsets(map[string]map[int]int64{command.Topic: {assigned.ID: message.Offset + 1}})
		committing.Unlock()
		if err != nil {
			return err
		}
		var headers [][2]string
		for _, header := range message.Headers {
			headers = append(headers, [2]string{header.Key, string(header.Value)})
		}
		driver.Emit(int32(message.Partition), message.Offset, message.Key, message.Value, headers)
	}
}

func main() {
	driver.Serve(driver.Hello{
		Client: "kafka-go " + driver.Version("github.com/segmentio/kafka-go"), Codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"},
		// Its reader hands out markers and aborted records as if they were messages, so it cannot read what is committed.
		Protocols: []string{"classic"}, Can: []string{"create", "groups", "describe"},
	}, map[string]func(context.Context, driver.Command) (driver.Answer, error){
		"create": create, "produce": produce, "groups": groups, "describe": describe, "consume": consume,
	})
}
