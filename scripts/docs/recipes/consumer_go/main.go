// A consumer in Go, with the standard library alone: every message once and in
// order, over cuts and restarts; or it is told that some were lost.
//
// usage: go run main.go URL PUBLISHER TOPIC      (URL: http://127.0.0.1:3000)
package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"strconv"
	"strings"
	"time"
)

// Follower has what was seen last, and what is done with messages.
type Follower struct {
	URL       string
	Token     func() string // may be nil
	OnMessage func(data, id string)
	OnReset   func(reason string) // messages may be lost: read the state again

	lastID string
	retry  time.Duration
}

// ErrFinal: coming back is no use (the token is refused, say).
var ErrFinal = errors.New("isimud refuses it")

// Silence is longer than twice PING_INTERVAL; then the link is dead.
const Silence = 90 * time.Second

// Run returns when ctx is done, or with ErrFinal.
func (f *Follower) Run(ctx context.Context) error {
	f.retry = time.Second
	for ctx.Err() == nil {
		if err := f.read(ctx); errors.Is(err, ErrFinal) {
			return err
		}
		select { // not all at once
		case <-time.After(f.retry/2 + time.Duration(rand.Int63n(int64(f.retry/2)+1))):
		case <-ctx.Done():
		}
	}
	return ctx.Err()
}

func (f *Follower) read(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	dead := time.AfterFunc(Silence, cancel)
	defer dead.Stop()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, f.URL, nil)
	if err != nil {
		return fmt.Errorf("%w: %v", ErrFinal, err)
	}
	request.Header.Set("Accept", "text/event-stream")
	if f.lastID != "" {
		request.Header.Set("Last-Event-ID", f.lastID)
	}
	if f.Token != nil {
		request.Header.Set("Authorization", "Bearer "+f.Token())
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	switch response.StatusCode {
	case 200:
	case 400, 401, 403, 404:
		return fmt.Errorf("%w: %s", ErrFinal, response.Status)
	default:
		return errors.New(response.Status)
	}
	lines := bufio.NewScanner(response.Body)
	lines.Buffer(nil, 16<<20) // MAX_BODY and more: a message may be one line
	event, data, id := "", []string(nil), f.lastID
	for lines.Scan() {
		dead.Reset(Silence)
		name, value, _ := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case name == "data":
			data = append(data, value)
		case name == "event":
			event = value
		case name == "id":
			id = value
		case name == "retry":
			if ms, err := strconv.Atoi(value); err == nil {
				f.retry = time.Duration(ms) * time.Millisecond
			}
		case lines.Text() == "": // the end of an event
			text := strings.Join(data, "\n")
			if event == "reset" {
				f.OnReset(text)
			} else if data != nil && event != "close" {
				f.OnMessage(text, id)
			}
			event, data, f.lastID = "", nil, id // only now: half an event is none
		}
	}
	return lines.Err()
}

func main() {
	query := url.Values{"publisher": {os.Args[2]}, "topic": {os.Args[3]}}
	follower := Follower{
		URL:       os.Args[1] + "/sub?" + query.Encode(),
		OnMessage: func(data, id string) { fmt.Println(data) },
		OnReset:   func(reason string) { fmt.Println("reset") },
	}
	fmt.Fprintln(os.Stderr, follower.Run(context.Background()))
	os.Exit(1)
}
