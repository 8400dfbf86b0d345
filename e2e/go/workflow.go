package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmgrpc"
	"github.com/dtm-labs/dtm/client/workflow"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/emptypb"
)

// Answer of the workflows: bytes that are no text, so that base64 has something to do.
var answer = []byte{0, 255, 'o', 'k'}

// soon makes the server call back after a second.
func soon(wf *workflow.Workflow) {
	wf.RetryInterval = 1
}

func workflowsOverHTTP(w *world) []scenario {
	workflow.InitHTTP(w.dtm, w.url("resume"))
	w.mux.HandleFunc("/resume", resume)
	must(workflow.Register2("http-order", w.order("in")))
	must(workflow.Register2("http-refused", w.order("in-no")))
	must(workflow.Register2("http-resumed", crashing(w.order("in")), soon))
	newGid := func(w *world) string { return dtmcli.MustGenGid(w.dtm) }
	return []scenario{
		{"http workflow", execute("http-order", newGid)},
		{"http workflow refused", execute("http-refused", newGid)},
		{"http workflow resumed", executeTwice("http-resumed", newGid)},
	}
}

// resume is where the server calls back. It answers nobody's question: what came of it is submitted.
func resume(out http.ResponseWriter, in *http.Request) {
	body, err := io.ReadAll(in.Body)
	if err == nil {
		err = workflow.ExecuteByQS(in.URL.Query(), body)
	}
	if err != nil {
		http.Error(out, err.Error(), http.StatusConflict)
		return
	}
	fmt.Fprint(out, `{"dtm_result":"SUCCESS"}`)
}

// order takes pieces out, and puts them in; if they are refused there, it brings them back.
func (w *world) order(in string) workflow.WfFunc2 {
	return func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		undo := func(name string) workflow.WfPhase2Func {
			return func(*dtmcli.BranchBarrier) error {
				_, err := wf.NewRequest().SetBody(data).Post(w.url(name))
				return err
			}
		}
		_, err := wf.NewBranch().OnRollback(undo("out-back")).NewRequest().SetBody(data).Post(w.url("out"))
		if err != nil {
			return nil, err
		}
		_, err = wf.NewBranch().OnRollback(undo("in-back")).NewRequest().SetBody(data).Post(w.url(in))
		return answer, err
	}
}

// crashing goes through everything the first time, and then it is as if it had not been heard of.
func crashing(run workflow.WfFunc2) workflow.WfFunc2 {
	var runs atomic.Int32
	return func(wf *workflow.Workflow, data []byte) ([]byte, error) {
		result, err := run(wf, data)
		if runs.Add(1) == 1 {
			return nil, errors.New("crashed")
		}
		return result, err
	}
}

func execute(name string, newGid func(*world) string) func(*world) string {
	return func(w *world) string {
		gid := newGid(w)
		result, err := workflow.ExecuteCtx(context.Background(), name, gid, []byte(`{"pieces":30}`))
		return fmt.Sprintf("%x, %s", result, w.outcome(gid, err))
	}
}

// executeTwice asks again after the end: the function does not run then, the result is the stored one.
func executeTwice(name string, newGid func(*world) string) func(*world) string {
	return func(w *world) string {
		gid := newGid(w)
		data := []byte(`{"pieces":30}`)
		_, first := workflow.ExecuteCtx(context.Background(), name, gid, data)
		w.await(gid)
		result, err := workflow.ExecuteCtx(context.Background(), name, gid, data)
		return fmt.Sprintf("%v, then %x, %s", first, result, w.outcome(gid, err))
	}
}

func workflowsOverGrpc(w *world) []scenario {
	w.newGrpcServer()
	// To be resumed over gRPC the server has to be reached as the client names it.
	workflow.InitGrpc(w.dtmGrpc, w.grpcBase, w.grpcServer)
	branches, err := grpc.Dial(w.grpcBase, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUnaryInterceptor(workflow.Interceptor))
	must(err)
	must(workflow.Register2("grpc-order", grpcOrder(branches, "in")))
	must(workflow.Register2("grpc-refused", grpcOrder(branches, "in-no")))
	must(workflow.Register2("grpc-resumed", crashing(grpcOrder(branches, "in")), soon))
	newGid := func(w *world) string { return dtmgrpc.MustGenGid(w.dtmGrpc) }
	return []scenario{
		{"grpc workflow", execute("grpc-order", newGid)},
		{"grpc workflow refused", execute("grpc-refused", newGid)},
		{"grpc workflow resumed", executeTwice("grpc-resumed", newGid)},
	}
}

func grpcOrder(branches *grpc.ClientConn, in string) workflow.WfFunc2 {
	return func(wf *workflow.Workflow, _ []byte) ([]byte, error) {
		call := func(ctx context.Context, name string) error {
			return branches.Invoke(ctx, service+name, pieces(), &emptypb.Empty{})
		}
		undo := func(name string) workflow.WfPhase2Func {
			return func(*dtmcli.BranchBarrier) error { return call(wf.Context, name) }
		}
		if err := call(wf.NewBranch().OnRollback(undo("out-back")).Context, "out"); err != nil {
			return nil, err
		}
		err := call(wf.NewBranch().OnRollback(undo("in-back")).Context, in)
		return answer, err
	}
}
