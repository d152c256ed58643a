// franz-go as producer and consumer, with the settings that serve it best at this load.
//
//	franz-go-bench produce HOST:PORT TOPIC RECORDS
//	franz-go-bench consume HOST:PORT TOPIC RECORDS
//
// The records are those of ../load: sensor JSON of about 180 bytes under a key of 13, 10,000 keys.
// Both print one JSON line; an error ends the run with exit code 1.
package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	devices       = 10_000
	firstMs       = 1_790_000_000_000
	silenceMax    = 10 * time.Second
	settledWithin = 60 * time.Second
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 4 {
		return fmt.Errorf("usage: franz-go-bench produce|consume HOST:PORT TOPIC RECORDS")
	}
	records, err := strconv.ParseInt(args[3], 10, 64)
	if err != nil {
		return err
	}
	switch args[0] {
	case "produce":
		return produce(args[1], args[2], records)
	case "consume":
		return consume(args[1], args[2], records)
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// reading keeps key and value of one record, to be used again once the record is delivered.
type reading struct {
	key   []byte
	value []byte
}

// readings makes the same records in every run.
type readings struct {
	random uint64
	made   int64
}

func (r *readings) next(into *reading) {
	device := 100_000_000 + r.uint64()%devices
	celsius := 25 + 5*r.normal()
	key := append(into.key[:0], "dev-"...)
	into.key = strconv.AppendUint(key, device, 10)
	value := append(into.value[:0], `{"device_id":"dev-`...)
	value = strconv.AppendUint(value, device, 10)
	value = append(value, `","building":"B1","floor":3,"room":"R12","type":"temperature","unit":"C","value":`...)
	value = appendTwoDecimals(value, celsius)
	value = append(value, `,"seq":`...)
	value = strconv.AppendInt(value, r.made, 10)
	value = append(value, `,"ts":`...)
	value = strconv.AppendInt(value, firstMs+r.made/1000, 10)
	into.value = append(value, `,"quality":"good","anomaly":false}`...)
	r.made++
}

// uint64 is xorshift64: the bench must not measure a random generator.
func (r *readings) uint64() uint64 {
	r.random ^= r.random << 13
	r.random ^= r.random >> 7
	r.random ^= r.random << 17
	return r.random
}

func (r *readings) normal() float64 {
	sum := 0.0
	for range 4 {
		sum += float64(r.uint64()>>11) / (1 << 53)
	}
	return (sum - 2) * 1.732
}

func appendTwoDecimals(to []byte, value float64) []byte {
	hundredths := int64(value * 100)
	if hundredths < 0 {
		to, hundredths = append(to, '-'), -hundredths
	}
	to = strconv.AppendInt(to, hundredths/100, 10)
	return append(to, '.', byte('0'+hundredths%100/10), byte('0'+hundredths%10))
}

func produce(address, topic string, records int64) error {
	client, err := kgo.NewClient(
		kgo.SeedBrokers(address),
		kgo.DefaultProduceTopic(topic),
		kgo.ProducerLinger(5*time.Millisecond),
		kgo.ProducerBatchMaxBytes(1_000_000),
		kgo.MaxBufferedRecords(100_000),
		kgo.ProducerBatchCompression(kgo.NoCompression()),
		kgo.RequiredAcks(kgo.AllISRAcks()),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	ctx := context.Background()
	if err := client.Ping(ctx); err != nil {
		return err
	}
	var delivered, failed atomic.Int64
	pool := sync.Pool{New: func() any {
		return &reading{key: make([]byte, 0, 16), value: make([]byte, 0, 256)}
	}}
	made := readings{random: 88_172_645_463_325_252}
	measured := begin()
	for range records {
		next := pool.Get().(*reading)
		made.next(next)
		record := &kgo.Record{Key: next.key, Value: next.value}
		client.Produce(ctx, record, func(_ *kgo.Record, err error) {
			if err != nil {
				failed.Add(1)
			} else {
				delivered.Add(1)
			}
			pool.Put(next)
		})
	}
	deadline, cancel := context.WithTimeout(ctx, settledWithin)
	defer cancel()
	if err := client.Flush(deadline); err != nil {
		return err
	}
	return measured.report(delivered.Load(), failed.Load(), records)
}

func consume(address, topic string, records int64) error {
	measured := begin()
	client, err := kgo.NewClient(
		kgo.SeedBrokers(address),
		kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchMaxBytes(50<<20),
	)
	if err != nil {
		return err
	}
	defer client.Close()
	var seen, failed, valueBytes int64
	for seen < records {
		deadline, cancel := context.WithTimeout(context.Background(), silenceMax)
		fetches := client.PollFetches(deadline)
		cancel()
		for _, failure := range fetches.Errors() {
			fmt.Fprintln(os.Stderr, "consume:", failure.Err)
			failed++
		}
		if failed > 0 {
			break
		}
		fetches.EachRecord(func(record *kgo.Record) {
			seen++
			valueBytes += int64(len(record.Value))
		})
	}
	fmt.Fprintln(os.Stderr, valueBytes, "bytes of values")
	return measured.report(seen, failed, records)
}

// measurement is wall time and CPU time (user and system) since its start.
type measurement struct {
	started time.Time
	cpu     float64
}

func begin() measurement {
	return measurement{time.Now(), cpuSeconds()}
}

func (m measurement) report(records, errors, wanted int64) error {
	seconds, cpu := time.Since(m.started).Seconds(), cpuSeconds()-m.cpu
	fmt.Printf(`{"client":"franz-go","records":%d,"seconds":%.6f,"cpu_seconds_per_million":%.4f,"errors":%d}`+"\n",
		records, seconds, cpu*1e6/float64(max(records, 1)), errors)
	// A consumer ends with a whole fetch, so it may have read more.
	if records < wanted || errors > 0 {
		return fmt.Errorf("%d of %d records, %d errors", records, wanted, errors)
	}
	return nil
}

func cpuSeconds() float64 {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	seconds := func(t syscall.Timeval) float64 { return float64(t.Sec) + float64(t.Usec)/1e6 }
	return seconds(used.Utime) + seconds(used.Stime)
}
