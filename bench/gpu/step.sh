# One step of bench/gpu.sh within its limit; sourced by it. Reads python, work, json, log and limit, counts `failures`.

failures=0
note() { "$python" -P "$work/clipscan/bench/records.py" "$json" "$@"; }  # SECTION NAME TEXT
say() { echo "$*" | tee -a "$log"; }

# What an exit code says.
words() {
  case $1 in
    0) echo "done" ;;
    124 | 137) echo "STOPPED at its limit: too slow, or a kernel hangs" ;;
    *) echo "FAILED with exit code $1" ;;
  esac
}

# step NAME SECONDS COMMAND...: runs it within its limit and what is left of LIMIT, its words into the log.
step() {
  local name=$1 most=$2 left=$((limit - SECONDS - 5)) began=$SECONDS code said
  shift 2
  ((most < left)) || most=$left
  if ((most < 5)); then
    say "$name: left out, no time is left"
    note steps "$name" "left out: no time was left"
    return 1
  fi
  echo "--- $name: $*" >>"$log"
  local before
  before=$(wc -c <"$log")
  timeout --kill-after=5 "$most" "$@" >>"$log" 2>&1
  code=$?
  said="$(words $code), $((SECONDS - began)) s"
  if ((code)); then
    failures=$((failures + 1))
    tail -c +$((before + 1)) "$log" | tail -n 12 | cut -c 1-200 | sed 's/^/    /'
  fi
  say "$name: $said"
  note steps "$name" "$said"
  return $code
}
