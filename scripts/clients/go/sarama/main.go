// Sarama in the scenario of scripts/clients.py.
package main

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/IBM/sarama"

	"weir.clients/driver"
)

var address = []string{os.Args[1]}

func config() *sarama.Config {
	config := sarama.NewConfig()
	config.Version = sarama.MaxVersion
	config.Producer.Return.Successes = true
	config.Producer.RequiredAcks = sarama.WaitForAll
	config.Producer.Idempotent = true
	config.Net.MaxOpenRequests = 1
	config.Producer.Partitioner = sarama.NewManualPartitioner
	return config
}

func send(producer sarama.SyncProducer, command driver.Command) error {
	var messages []*sarama.ProducerMessage
	for _, record := range command.Records {
		var headers []sarama.RecordHeader
		for _, header := range record.Headers {
			headers = append(headers, sarama.RecordHeader{Key: []byte(header[0]), Value: []byte(header[1])})
		}
		messages = append(messages, &sarama.ProducerMessage{
			Topic: command.Topic, Partition: record.Partition, Key: sarama.StringEncoder(record.Key),
			Value: sarama.StringEncoder(record.Value), Headers: headers,
		})
	}
	return producer.SendMessages(messages)
}

func create(_ context.Context, command driver.Command) (driver.Answer, error) {
	return withAdmin(func(admin sarama.ClusterAdmin) (driver.Answer, error) {
		detail := sarama.TopicDetail{NumPartitions: command.Partitions, ReplicationFactor: 1}
		return nil, admin.CreateTopic(command.Topic, &detail, false)
	})
}

func produce(_ context.Context, command driver.Command) (driver.Answer, error) {
	codecs := map[string]sarama.CompressionCodec{
		"none": sarama.CompressionNone, "gzip": sarama.CompressionGZIP, "snappy": sarama.CompressionSnappy,
		"lz4": sarama.CompressionLZ4, "zstd": sarama.CompressionZSTD,
	}
	config := config()
	config.Producer.Compression = codecs[command.Codec]
	producer, err := sarama.NewSyncProducer(address, config)
	if err != nil {
		return nil, err
	}
	return nil, errors.Join(send(producer, command), producer.Close())
}

func transaction(_ context.Context, command driver.Command) (driver.Answer, error) {
	config := config()
	config.Producer.Transaction.ID = command.ID
	producer, err := sarama.NewSyncProducer(address, config)
	if err != nil {
		return nil, err
	}
	defer producer.Close()
	if err := producer.BeginTxn(); err != nil {
		return nil, err
	}
	if err := send(producer, command); err != nil {
		return nil, err
	}
	if command.End == "commit" {
		return nil, producer.CommitTxn()
	}
	return nil, producer.AbortTxn()
}

func groups(_ context.Context, _ driver.Command) (driver.Answer, error) {
	return withAdmin(func(admin sarama.ClusterAdmin) (driver.Answer, error) {
		listed, err := admin.ListConsumerGroups()
		var names []string
		for name := range listed {
			names = append(names, name)
		}
		return driver.Answer{"groups": names}, err
	})
}

func describe(_ context.Context, command driver.Command) (driver.Answer, error) {
	return withAdmin(func(admin sarama.ClusterAdmin) (driver.Answer, error) {
		described, err := admin.DescribeConsumerGroups([]string{command.Group})
		if err != nil {
			return nil, err
		}
		members := map[string][]int32{}
		for _, member := range described[0].Members {
			assigned, err := member.GetMemberAssignment()
			if err != nil {
				return nil, err
			}
			for _, partitions := range assigned.Topics {
				members[member.ClientId] = append(members[member.ClientId], partitions...)
			}
		}
		return driver.Answer{"state": described[0].State, "members": members}, nil
	})
}

func deleteRecords(_ context.Context, command driver.Command) (driver.Answer, error) {
	return withAdmin(func(admin sarama.ClusterAdmin) (driver.Answer, error) {
		return nil, admin.DeleteRecords(command.Topic, map[int32]int64{command.Partition: command.Offset})
	})
}

func consume(ctx context.Context, command driver.Command) (driver.Answer, error) {
	config := config()
	config.ClientID = command.ClientID
	config.Consumer.Offsets.Initial = sarama.OffsetOldest
	config.Consumer.Offsets.AutoCommit.Enable = false
	config.Consumer.Group.Heartbeat.Interval = 500 * time.Millisecond
	config.Consumer.MaxWaitTime = 100 * time.Millisecond
	if command.ReadCommitted {
		config.Consumer.IsolationLevel = sarama.ReadCommitted
	}
	group, err := sarama.NewConsumerGroup(address, command.Group, config)
	if err != nil {
		return nil, err
	}
	for ctx.Err() == nil {
		// It returns at each rebalance.
		if err := group.Consume(ctx, []string{command.Topic}, handler{}); err != nil && ctx.Err() == nil {
			return nil, errors.Join(err, group.Close())
		}
	}
	return nil, group.Close()
}

type handler struct{}

func (handler) Setup(sarama.ConsumerGroupSession) error   { return nil }
func (handler) Cleanup(sarama.ConsumerGroupSession) error { return nil }

// Commits whenever nothing more has arrived: a commit takes Sarama some 25 ms, whatever the broker.
func (handler) ConsumeClaim(session sarama.ConsumerGroupSession, claim sarama.ConsumerGroupClaim) error {
	var uncommitted []*sarama.ConsumerMessage
	for {
		select {
		case message, open := <-claim.Messages():
			if !open {
				return nil
			}
			uncommitted = append(uncommitted, message)
			if len(claim.Messages()) > 0 {
				continue
			}
			session.MarkMessage(message, "")
			session.Commit()
			for _, message := range uncommitted {
				var headers [][2]string
				for _, header := range message.Headers {
					headers = append(headers, [2]string{string(header.Key), string(header.Value)})
				}
				driver.Emit(message.Partition, message.Offset, message.Key, message.Value, headers)
			}
			uncommitted = nil
		case <-session.Context().Done():
			return nil
		}
	}
}

func withAdmin(use func(sarama.ClusterAdmin) (driver.Answer, error)) (driver.Answer, error) {
	admin, err := sarama.NewClusterAdmin(address, config())
	if err != nil {
		return nil, err
	}
	defer admin.Close()
	return use(admin)
}

func main() {
	driver.Serve(driver.Hello{
		Client: "Sarama " + driver.Version("github.com/IBM/sarama"), Codecs: []string{"none", "gzip", "snappy", "lz4", "zstd"},
		Protocols: []string{"classic"},
		Can:       []string{"create", "idempotence", "commit", "abort", "read_committed", "groups", "describe", "delete_records"},
	}, map[string]func(context.Context, driver.Command) (driver.Answer, error){
		"create": create, "produce": produce, "transaction": transaction, "groups": groups, "describe": describe,
		"delete_records": deleteRecords, "consume": consume,
	})
}
