package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sort"
	"strings"
	"time"

	"github.com/dtm-labs/dtm/client/dtmcli"
	"github.com/dtm-labs/dtm/client/dtmcli/dtmimp"
	"github.com/go-resty/resty/v2"
)

func httpScenarios() []scenario {
	return []scenario{
		{"http saga", saga("in")},
		{"http saga refused", saga("in-no")},
		{"http saga answered late", saga("in-later")},
		{"http saga broken once", saga("in-broken")},
		{"http saga concurrent", sagaConcurrent},
		{"http tcc", tcc("in")},
		{"http tcc refused", tcc("in-no")},
		{"http tcc nested", tccNested},
		{"http msg", msg},
		{"http msg do and submit", msgDo(nil)},
		{"http msg do and refuse", msgDo(dtmcli.ErrFailure)},
		{"http msg do, unknown", msgDo(errors.New("timeout"))},
		{"http msg forgotten", msgForgotten("check")},
		{"http msg forgotten, not committed", msgForgotten("check-no")},
		{"http msg delayed", msgDelayed},
		{"http msg topic", msgTopic},
		{"json-rpc saga", sagaRPC},
	}
}

func (w *world) newSaga(in string) *dtmcli.Saga {
	saga := dtmcli.NewSaga(w.dtm, dtmcli.MustGenGid(w.dtm)).
		Add(w.url("out"), w.url("out-back"), amount{30}).
		Add(w.url(in), w.url("in-back"), amount{30})
	saga.RetryInterval = 1
	return saga
}

func saga(in string) func(*world) string {
	return func(w *world) string {
		saga := w.newSaga(in)
		// A pause is no end: those that wait would be told FAILURE.
		saga.WaitResult = in == "in" || in == "in-no"
		return w.outcome(saga.Gid, saga.Submit())
	}
}

// The third step waits for both others, which come in either order.
func sagaConcurrent(w *world) string {
	saga := w.newSaga("in").Add(w.url("notify"), "", amount{0})
	saga.SetConcurrent().AddBranchOrder(2, []int{0, 1})
	saga.WaitResult = true
	err := saga.Submit()
	status, _ := w.await(saga.Gid)
	calls := w.calls.list(saga.Gid)
	if len(calls) > 2 {
		sort.Strings(calls[:2])
	}
	return fmt.Sprintf("%s, %v | %s", status, err, strings.Join(calls, ", "))
}

func tcc(in string) func(*world) string {
	return func(w *world) string {
		gid := dtmcli.MustGenGid(w.dtm)
		err := dtmcli.TccGlobalTransaction(w.dtm, gid, func(tcc *dtmcli.Tcc) (*resty.Response, error) {
			response, err := tcc.CallBranch(amount{30}, w.url("out"), w.url("out"), w.url("out"))
			if err != nil {
				return response, err
			}
			return tcc.CallBranch(amount{30}, w.url(in), w.url("in"), w.url("in"))
		})
		return w.outcome(gid, err)
	}
}

// The first branch has a branch of its own, which it registers with what it reads from its query.
func tccNested(w *world) string {
	gid := dtmcli.MustGenGid(w.dtm)
	w.mux.HandleFunc("/nested", func(out http.ResponseWriter, in *http.Request) {
		if in.URL.Query().Get("op") == dtmimp.OpTry {
			if err := w.inner(in.URL.Query()); err != nil {
				http.Error(out, err.Error(), http.StatusInternalServerError)
				return
			}
		}
		w.branch(out, in)
	})
	err := dtmcli.TccGlobalTransaction(w.dtm, gid, func(tcc *dtmcli.Tcc) (*resty.Response, error) {
		return tcc.CallBranch(amount{30}, w.url("nested"), w.url("nested"), w.url("nested"))
	})
	return w.outcome(gid, err)
}

func (w *world) inner(query url.Values) error {
	tcc, err := dtmcli.TccFromQuery(query)
	if err != nil {
		return err
	}
	_, err = tcc.CallBranch(amount{30}, w.url("inner"), w.url("inner"), w.url("inner"))
	return err
}

func (w *world) newMsg() *dtmcli.Msg {
	msg := dtmcli.NewMsg(w.dtm, dtmcli.MustGenGid(w.dtm)).
		Add(w.url("in"), amount{30}).
		Add(w.url("notify"), amount{30})
	msg.RetryInterval = 1
	return msg
}

func msg(w *world) string {
	msg := w.newMsg()
	err := msg.Prepare(w.url("check"))
	if err == nil {
		err = msg.Submit()
	}
	return w.outcome(msg.Gid, err)
}

func msgDo(local error) func(*world) string {
	return func(w *world) string {
		msg := w.newMsg()
		err := msg.DoAndSubmit(w.url("check"), func(*dtmcli.BranchBarrier) error { return local })
		return w.outcome(msg.Gid, err)
	}
}

// Its sender dies between its local transaction and the submit.
func msgForgotten(check string) func(*world) string {
	return func(w *world) string {
		msg := w.newMsg()
		msg.TimeoutToFail = 1
		return w.outcome(msg.Gid, msg.Prepare(w.url(check)))
	}
}

func msgDelayed(w *world) string {
	msg := w.newMsg().SetDelay(1)
	begun := time.Now()
	line := w.outcome(msg.Gid, msg.Submit())
	return fmt.Sprintf("%s, late enough: %t", line, time.Since(begun) >= time.Second)
}

func msgTopic(w *world) string {
	topic := "go-" + dtmcli.MustGenGid(w.dtm)
	for _, subscriber := range []string{"in", "notify"} {
		query := url.Values{"topic": {topic}, "url": {w.url(subscriber)}, "remark": {"go"}}
		response, err := http.Get(w.dtm + "/subscribe?" + query.Encode())
		if err != nil {
			return err.Error()
		}
		said, _ := io.ReadAll(response.Body)
		response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return fmt.Sprintf("subscribe: %d %s", response.StatusCode, said)
		}
	}
	msg := dtmcli.NewMsg(w.dtm, dtmcli.MustGenGid(w.dtm)).AddTopic(topic, amount{30})
	return w.outcome(msg.Gid, msg.Submit())
}

// Client and branches speak JSON-RPC.
func sagaRPC(w *world) string {
	gid := dtmcli.MustGenGid(w.dtm)
	saga := dtmcli.NewSaga(strings.Replace(w.dtm, "dtmsvr", "json-rpc", 1), gid).
		Add(w.url("rpc?method=out"), w.url("rpc?method=out-back"), amount{30}).
		Add(w.url("rpc?method=in"), w.url("rpc?method=in-back"), amount{30})
	saga.Protocol = dtmimp.Jrpc
	saga.WaitResult = true
	w.mux.HandleFunc("/rpc", w.branchRPC)
	return w.outcome(gid, saga.Submit())
}
