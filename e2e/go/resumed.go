package main

import (
	"context"
	"fmt"
	"net"
	"net/http"

	"github.com/dtm-labs/dtm/client/workflow"
)

// A workflow whose application dies in the middle: one process begins it and hangs in its second step, whose
// service does not answer; it is killed. Another one takes its address and is called back.

func registerKilled(dtm, address, steps string) {
	workflow.InitHTTP(dtm, "http://"+address+"/resume")
	run := func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		for _, name := range []string{"/first", "/second", "/third"} {
			if _, err := wf.NewBranch().NewRequest().SetBody(data).Post(steps + name); err != nil {
				return nil, err
			}
		}
		return answer, nil
	}
	must(workflow.Register2("killed", run, soon))
}

// begin runs it; steps is the address of its services.
func begin(dtm, address, gid, steps string) {
	registerKilled(dtm, address, steps)
	_, err := workflow.ExecuteCtx(context.Background(), "killed", gid, []byte(`{"pieces":30}`))
	fmt.Println("it was not killed:", err)
}

// serve waits to be called back, until it is killed as well.
func serve(dtm, address, steps string) {
	registerKilled(dtm, address, steps)
	http.HandleFunc("/resume", resume)
	listener, err := net.Listen("tcp", address)
	must(err)
	fmt.Println("listening")
	must(http.Serve(listener, nil))
}
