package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmcli/dtmimp"
	"github.com/dtm-labs/dtm/client/dtmgrpc"
	"github.com/dtm-labs/dtm/client/dtmgrpc/dtmgimp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

const service = "/e2e.Busi/"

func grpcScenarios() []scenario {
	return []scenario{
		{"grpc saga", grpcSaga("in", false)},
		{"grpc saga refused", grpcSaga("in-no", false)},
		{"grpc saga answered late", grpcSaga("in-later", false)},
		{"grpc saga broken once", grpcSaga("in-broken", false)},
		{"grpc saga concurrent", grpcSaga("in", true)},
		{"grpc tcc", grpcTcc("in")},
		{"grpc tcc refused", grpcTcc("in-no")},
		{"grpc tcc nested", grpcTccNested},
		{"grpc msg", grpcMsg},
		{"grpc msg do and submit", grpcMsgDo(nil)},
		{"grpc msg do and refuse", grpcMsgDo(dtmcli.ErrFailure)},
		{"grpc msg do, unknown", grpcMsgDo(errors.New("timeout"))},
		{"grpc msg forgotten", grpcMsgForgotten("check")},
		{"grpc msg forgotten, not committed", grpcMsgForgotten("check-no")},
	}
}

// newGrpcServer takes the calls of all methods: like w.branch, by their names.
func (w *world) newGrpcServer() {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(err)
	w.grpcBase = listener.Addr().String()
	w.grpcListener = listener
	w.grpcServer = grpc.NewServer(grpc.UnknownServiceHandler(w.grpcBranch))
}

func (w *world) listenGrpc() {
	go func() { must(w.grpcServer.Serve(w.grpcListener)) }()
}

func (w *world) grpcBranch(_ any, stream grpc.ServerStream) error {
	var asked wrapperspb.Int64Value
	if err := stream.RecvMsg(&asked); err != nil {
		return err
	}
	method, _ := grpc.MethodFromServerStream(stream)
	name := strings.TrimPrefix(method, service)
	branch := dtmgimp.TransBaseFromGrpc(stream.Context())
	call := fmt.Sprintf("%s/%s %s", branch.Op, branch.BranchID, name)
	if asked.Value != 30 && branch.Op != dtmimp.MsgDoOp {
		return status.Errorf(codes.InvalidArgument, "%s: told %d", call, asked.Value)
	}
	if name == "nested" && branch.Op == dtmimp.OpTry {
		if err := w.grpcInner(stream.Context()); err != nil {
			return err
		}
	}
	switch verdict(name, w.calls.add(branch.Gid, call)) {
	case no:
		return status.Error(codes.Aborted, "sold out FAILURE")
	case later:
		return status.Error(codes.FailedPrecondition, "ONGOING")
	case broken:
		return status.Error(codes.Unavailable, "broken")
	}
	return stream.SendMsg(&emptypb.Empty{})
}

func (w *world) grpcURL(name string) string {
	return w.grpcBase + service + name
}

func pieces() *wrapperspb.Int64Value {
	return wrapperspb.Int64(30)
}

func grpcSaga(in string, concurrent bool) func(*world) string {
	return func(w *world) string {
		saga := dtmgrpc.NewSagaGrpc(w.dtmGrpc, dtmgrpc.MustGenGid(w.dtmGrpc)).
			Add(w.grpcURL("out"), w.grpcURL("out-back"), pieces()).
			Add(w.grpcURL(in), w.grpcURL("in-back"), pieces())
		if concurrent {
			saga.EnableConcurrent().AddBranchOrder(1, []int{0})
		}
		saga.RetryInterval = 1
		saga.WaitResult = in == "in" || in == "in-no"
		return w.outcome(saga.Gid, saga.Submit())
	}
}

func grpcTcc(in string) func(*world) string {
	return func(w *world) string {
		gid := dtmgrpc.MustGenGid(w.dtmGrpc)
		err := dtmgrpc.TccGlobalTransaction(w.dtmGrpc, gid, func(tcc *dtmgrpc.TccGrpc) error {
			out, reply := w.grpcURL("out"), &emptypb.Empty{}
			if err := tcc.CallBranch(pieces(), out, out, out, reply); err != nil {
				return err
			}
			return tcc.CallBranch(pieces(), w.grpcURL(in), w.grpcURL("in"), w.grpcURL("in"), reply)
		})
		return w.outcome(gid, err)
	}
}

func grpcTccNested(w *world) string {
	gid := dtmgrpc.MustGenGid(w.dtmGrpc)
	err := dtmgrpc.TccGlobalTransaction(w.dtmGrpc, gid, func(tcc *dtmgrpc.TccGrpc) error {
		nested := w.grpcURL("nested")
		return tcc.CallBranch(pieces(), nested, nested, nested, &emptypb.Empty{})
	})
	return w.outcome(gid, err)
}

func (w *world) grpcInner(ctx context.Context) error {
	tcc, err := dtmgrpc.TccFromGrpc(ctx)
	if err != nil {
		return err
	}
	inner := w.grpcURL("inner")
	return tcc.CallBranch(pieces(), inner, inner, inner, &emptypb.Empty{})
}

func (w *world) newGrpcMsg() *dtmgrpc.MsgGrpc {
	msg := dtmgrpc.NewMsgGrpc(w.dtmGrpc, dtmgrpc.MustGenGid(w.dtmGrpc)).
		Add(w.grpcURL("in"), pieces()).
		Add(w.grpcURL("notify"), pieces())
	msg.RetryInterval = 1
	return msg
}

func grpcMsg(w *world) string {
	msg := w.newGrpcMsg()
	err := msg.Prepare(w.grpcURL("check"))
	if err == nil {
		err = msg.Submit()
	}
	return w.outcome(msg.Gid, err)
}

func grpcMsgDo(local error) func(*world) string {
	return func(w *world) string {
		msg := w.newGrpcMsg()
		busi := func(*dtmcli.BranchBarrier) error { return local }
		return w.outcome(msg.Gid, msg.DoAndSubmit(w.grpcURL("check"), busi))
	}
}

func grpcMsgForgotten(check string) func(*world) string {
	return func(w *world) string {
		msg := w.newGrpcMsg()
		msg.TimeoutToFail = 1
		return w.outcome(msg.Gid, msg.Prepare(w.grpcURL(check)))
	}
}
