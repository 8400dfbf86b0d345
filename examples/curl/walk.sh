# One TCC transaction by hand. The participant is the server's own /api/ping, which says yes to everything.
dtm=${1:-http://127.0.0.1:36789/api/dtmsvr}
ping=${dtm%/dtmsvr}/ping
say() { curl -s -H 'Content-Type: application/json' -d "$2" "$dtm/$1"; echo; }
gid=walk-$$
say prepare "{\"gid\":\"$gid\",\"trans_type\":\"tcc\"}"
say registerBranch "{\"gid\":\"$gid\",\"trans_type\":\"tcc\",\"branch_id\":\"01\",\"data\":\"{}\",
                     \"confirm\":\"$ping?it=confirm\",\"cancel\":\"$ping?it=cancel\"}"
curl -s "$ping?it=try&gid=$gid&trans_type=tcc&branch_id=01&op=try"; echo
say submit "{\"gid\":\"$gid\",\"trans_type\":\"tcc\",\"wait_result\":true}"
curl -s "$dtm/query?gid=$gid"; echo
