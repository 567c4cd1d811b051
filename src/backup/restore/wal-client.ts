/** Where PostgreSQL's side and ours meet: `ready/` and `absent/` are answers, `ask/` questions, `beat` a sign of life. */
export const meeting = {
  ready: 'ready',
  absent: 'absent',
  ask: 'ask',
  beat: 'beat',
  failed: 'failed',
  client: 'get',
} as const

// A look takes 50 ms and the start of a program: ten seconds or more without a sign of life.
export const usualPatience = 200

// No shell says this by itself, as it says 1, 2 or 127 when it cannot even read the script.
const absentExit = 100

/**
 * Gets one file, as a shell script: to start Node for each segment would take longer than to replay it. Exits 0 when the
 * file is at its place, 100 when there is none, and otherwise with anything else; never later than its patience when
 * the server is dead.
 */
export function clientScript(directory: string, patience = usualPatience): string {
  return `#!/bin/sh
# Written by MoonYetis for one restore: gets file $1 of the write-ahead log to $2.
here=${shellQuoted(directory)}
file=$1
to=$2
[ -n "$to" ] || exit 201
mv -f "$here/${meeting.ready}/$file" "$to" 2>/dev/null && exit 0
rm -f "$here/${meeting.absent}/$file" || exit 202
true > "$here/${meeting.ask}/$file" || exit 203
beat=
still=0
while :; do
  if [ -e "$here/${meeting.ready}/$file" ]; then
    mv -f "$here/${meeting.ready}/$file" "$to" || exit 204
    rm -f "$here/${meeting.ask}/$file"
    exit 0
  fi
  [ -e "$here/${meeting.absent}/$file" ] && exit ${absentExit}
  [ -e "$here/${meeting.failed}" ] && exit 205
  now=
  read -r now < "$here/${meeting.beat}" || exit 206
  if [ "$now" = "$beat" ]; then
    still=$((still + 1))
    [ "$still" -ge ${patience} ] && exit 207
  else
    beat=$now
    still=0
  fi
  sleep 0.05 2>/dev/null || { sleep 1; still=$((still + 19)); }
done
`
}

/**
 * The value of restore_command. PostgreSQL takes 1 to 125 for the end of the log, and would promote, so that only a
 * plain "there is none" may become 1 (xlogarchive.c, RestoreArchivedFile). It replaces %f and %p, and %% by a percent
 * sign.
 */
export function restoreCommand(script: string): string {
  const get = `/bin/sh ${shellQuoted(script).replaceAll('%', '%%')} %f "%p"`
  return `${get}; case $? in 0) exit 0;; ${absentExit}) exit 1;; *) exit 210;; esac`
}

function shellQuoted(text: string): string {
  return `'${text.replaceAll("'", "'\\''")}'`
}
