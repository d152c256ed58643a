// franz-go in the scenario of scripts/clients.py.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"weir.clients/driver"
)

var address = kgo.SeedBrokers(os.Args[1])

func records(command driver.Command) []*kgo.Record {
	var made []*kgo.Record
	for _, record := range command.Records {
		var headers []kgo.RecordHeader
		for _, header := range record.Headers {
			headers = append(headers, kgo.RecordHeader{Key: header[0], Value: []byte(header[1])})
		}
		made = append(made, &kgo.Record{
			Topic: command.Topic, Partition: record.Partition, Key: []byte(record.Key), Value: []byte(record.Value), Headers: headers,
		})
	}
	return made
}

func create(ctx context.Context, command driver.Command) (driver.Answer, error) {
	admin, err := admin()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	_, err = admin.CreateTopic(ctx, command.Partitions, 1, nil, command.Topic)
	return nil, err
}

func produce(ctx context.Context, command driver.Command) (driver.Answer, error) {
	codecs := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}
	client, err := kgo.NewClient(address, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerBatchCompression(codecs[command.Codec]))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	return nil, client.ProduceSync(ctx, records(command)...).FirstErr()
}

func transaction(ctx context.Context, command driver.Command) (driver.Answer, error) {
	client, err := kgo.NewClient(address, kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.TransactionalID(command.ID))
	if err != nil {
		return nil, err
	}
	defer client.Close()
	if err := client.BeginTransaction(); err != nil {
		return nil, err
	}
	if err := client.ProduceSync(ctx, records(command)...).FirstErr(); err != nil {
		return nil, err
	}
	return nil, client.EndTransaction(ctx, kgo.TransactionEndTry(command.End == "commit"))
}

func groups(ctx context.Context, _ driver.Command) (driver.Answer, error) {
	admin, err := admin()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	listed, err := admin.ListGroups(ctx)
	return driver.Answer{"groups": listed.Groups()}, err
}

func describe(ctx context.Context, command driver.Command) (driver.Answer, error) {
	admin, err := admin()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	members := map[string][]int32{}
	described, err := admin.DescribeConsumerGroups(ctx, command.Group)
	if group := described[command.Group]; err == nil && group.Err == nil {
		for _, member := range group.Members {
			for partition := range member.Assignment[onlyTopic(member.Assignment)] {
				members[member.ClientID] = append(members[member.ClientID], partition)
			}
		}
		return driver.Answer{"state": group.State, "members": members}, nil
	}
	classic, err := admin.DescribeGroups(ctx, command.Group)
	if err != nil {
		return nil, err
	}
	group := classic[command.Group]
	for _, member := range group.Members {
		if assigned, ok := member.Assigned.AsConsumer(); ok {
			for _, topic := range assigned.Topics {
				members[member.ClientID] = append(members[member.ClientID], topic.Partitions...)
			}
		}
	}
	return driver.Answer{"state": group.State, "members": members}, group.Err
}

func onlyTopic(topics kadm.TopicsSet) string {
	for topic := range topics {
		return topic
	}
	return ""
}

func deleteRecords(ctx context.Context, command driver.Command) (driver.Answer, error) {
	admin, err := admin()
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	var offsets kadm.Offsets
	offsets.AddOffset(command.Topic, command.Partition, command.Offset, -1)
	answers, err := admin.DeleteRecords(ctx, offsets)
	if err != nil {
		return nil, err
	}
	return nil, answers.Error()
}

func consume(ctx context.Context, command driver.Command) (driver.Answer, error) {
	options := []kgo.Opt{
		address, kgo.ClientID(command.ClientID), kgo.ConsumerGroup(command.Group), kgo.ConsumeTopics(command.Topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DisableAutoCommit(), kgo.FetchMaxWait(100 * time.Millisecond),
		kgo.HeartbeatInterval(500 * time.Millisecond),
	}
	if command.ReadCommitted {
		options = append(options, kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	}
	if command.Protocol == "consumer" {
		// The client still asks for this word before it uses KIP-848.
		options = append(options, kgo.WithContext(context.WithValue(context.Background(), "opt_in_kafka_next_gen_balancer_beta", true)))
	}
	client, err := kgo.NewClient(options...)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	for ctx.Err() == nil {
		fetches := client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil && !errors.Is(err, context.Canceled) {
			return nil, err
		}
		if fetches.NumRecords() == 0 {
			continue
		}
		if err := client.CommitRecords(context.Background(), fetches.Records()...); err != nil {
			return nil, err
		}
		fetches.EachRecord(func(record *kgo.Record) {
			var headers [][2]string
			for _, header := range record.Headers {
				headers = append(headers, [2]string{header.Key, string(header.Value)})
			}
			driver.Emit(record.Partition, record.Offset, record.Key, record.Value, headers)
		})
	}
	return nil, client.LeaveGroupContext(context.Background())
}

func admin() (*kadm.Client, error) {
	client, err := kgo.NewClient(address)
	if err != nil {
		return nil, err
	}
	return kadm.NewClient(client), nil
}

func main() {
	driver.Serve(driver.Hello{
		Client: "franz-go " + driver.Version("github.com/twmb/franz-go"), Codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Protocols: []string{"classic", "consumer"},
		Can:       []string{"create", "idempotence", "commit", "abort", "read_committed", "groups", "describe", "delete_records"},
	}, map[string]func(context.Context, driver.Command) (driver.Answer, error){
		"create": create, "produce": produce, "transaction": transaction, "groups": groups, "describe": describe,
		"delete_records": deleteRecords, "consume": consume,
	})
}
