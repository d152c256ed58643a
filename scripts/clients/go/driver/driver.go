// Package driver is the Go side of the protocol between scripts/clients.py and a client's program; see ../../driver.py.
package driver

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"sync"
	"time"
)

// Record is one to be written: a JSON array of partition, key, value and headers.
type Record struct {
	Partition  int32
	Key, Value string
	Headers    [][2]string
}

func (r *Record) UnmarshalJSON(text []byte) error {
	return json.Unmarshal(text, &[]any{&r.Partition, &r.Key, &r.Value, &r.Headers})
}

// Command is a line of standard input; which fields it has depends on the verb.
type Command struct {
	Do, Topic, Codec, ID, End, Group, Protocol string
	ClientID                                   string `json:"client_id"`
	ReadCommitted                              bool   `json:"read_committed"`
	Partitions, Partition                      int32
	Offset                                     int64
	Records                                    []Record
}

// Hello says what the client is.
type Hello struct {
	Client    string   `json:"client"`
	Codecs    []string `json:"codecs"`
	Protocols []string `json:"protocols"`
	Can       []string `json:"can"`
}

type Answer map[string]any

// Deadline of one verb other than consume.
const timeout = 40 * time.Second

var out = struct {
	sync.Mutex
	*json.Encoder
}{Encoder: json.NewEncoder(os.Stdout)}

func emit(answer any) {
	out.Lock()
	defer out.Unlock()
	if err := out.Encode(answer); err != nil {
		os.Exit(1)
	}
}

// Emit prints a record that was consumed and whose offset is committed.
func Emit(partition int32, offset int64, key, value []byte, headers [][2]string) {
	if headers == nil {
		headers = [][2]string{}
	}
	emit(Answer{"record": []any{partition, offset, string(key), string(value), headers}})
}

// Version of a module that this program was built with.
func Version(module string) string {
	info, _ := debug.ReadBuildInfo()
	for _, dependency := range info.Deps {
		if dependency.Path == module {
			return dependency.Version
		}
	}
	return "?"
}

// Serve answers commands until there are no more, or until a member of a group has left.
func Serve(hello Hello, verbs map[string]func(context.Context, Command) (Answer, error)) {
	emit(hello)
	in := bufio.NewReader(os.Stdin)
	for {
		line, err := in.ReadBytes('\n')
		if err != nil {
			return
		}
		var command Command
		if err := json.Unmarshal(line, &command); err != nil {
			emit(Answer{"error": err.Error()})
			continue
		}
		ctx, cancel := context.WithTimeout(context.Background(), timeout)
		if command.Do == "consume" {
			cancel()
			ctx, cancel = context.WithCancel(context.Background())
			go func() {
				in.ReadBytes('\n')
				cancel()
			}()
		}
		answer, err := verbs[command.Do](ctx, command)
		cancel()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			answer = Answer{"error": err.Error()}
		} else {
			if answer == nil {
				answer = Answer{}
			}
			answer["done"] = true
		}
		emit(answer)
		if command.Do == "consume" {
			return
		}
	}
}
