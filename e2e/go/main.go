// DTM's Go client, unchanged, against a server: one line for each scenario with what came of it.
//
//	dtm-go http://HOST:PORT/api/dtmsvr HOST:PORT                 all scenarios, over HTTP, then over gRPC
//	dtm-go http://HOST:PORT/api/dtmsvr HOST:PORT begin ADDR GID URL
//	                                                             runs one workflow (see resumed.go)
//	dtm-go http://HOST:PORT/api/dtmsvr HOST:PORT serve ADDR URL  waits to be called back about it
//
// A line is `NAME: STATUS | calls of branches`, in the order in which they came, each as `op/branch path`. The
// test that starts this program knows what each line has to be; here nothing is judged.
package main

import (
	"fmt"
	"os"
	"sync"

	"github.com/dtm-labs/logger"
)

// scenario is a transaction and its name.
type scenario struct {
	name string
	run  func(*world) string
}

func main() {
	// It logs every request otherwise, into the lines.
	logger.InitLog("fatal")
	if len(os.Args) == 2 && os.Args[1] == "version" {
		fmt.Println("DTM's Go client 1.19.0")
		return
	}
	if len(os.Args) < 3 {
		fail("two addresses: http://HOST:PORT/api/dtmsvr and HOST:PORT")
	}
	dtm, dtmGrpc, rest := os.Args[1], os.Args[2], os.Args[3:]
	switch {
	case len(rest) == 0:
		runAll(newWorld(dtm, dtmGrpc))
	case rest[0] == "begin" && len(rest) == 4:
		begin(dtm, rest[1], rest[2], rest[3])
	case rest[0] == "serve" && len(rest) == 3:
		serve(dtm, rest[1], rest[2])
	default:
		fail("what is " + rest[0] + "?")
	}
}

func runAll(w *world) {
	w.listenHTTP()
	report(w, httpScenarios())
	report(w, workflowsOverHTTP(w))
	// The workflow package knows one protocol at a time.
	flows := workflowsOverGrpc(w)
	w.listenGrpc()
	report(w, grpcScenarios())
	report(w, flows)
}

// report runs them at the same time, and prints them in their order.
func report(w *world, scenarios []scenario) {
	lines := make([]string, len(scenarios))
	var all sync.WaitGroup
	for i, s := range scenarios {
		all.Add(1)
		go func(i int, s scenario) {
			defer all.Done()
			lines[i] = guarded(w, s.run)
		}(i, s)
	}
	all.Wait()
	for i, s := range scenarios {
		fmt.Printf("%s: %s\n", s.name, lines[i])
	}
}

// guarded turns a panic of the client library, which it uses for errors, into a line.
func guarded(w *world, run func(*world) string) (line string) {
	defer func() {
		if why := recover(); why != nil {
			line = fmt.Sprintf("panic: %v", why)
		}
	}()
	return run(w)
}

func fail(why string) {
	fmt.Fprintln(os.Stderr, why)
	os.Exit(2)
}

// must ends the program: what it is for cannot be done.
func must(err error) {
	if err != nil {
		fail(err.Error())
	}
}
