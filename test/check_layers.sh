#!/bin/bash
# Two rules that the compiler does not know:
# - no folder includes a header of a folder that stands on it;
# - every SQL function, procedure, aggregate and view has a comment.
set -eu
cd "$(dirname "$0")/.."
status=0

declare -A below=(
	[core]=""
	[redex]="core"
	[bus]="core redex"
	[cortex]="core redex bus"
	[watch]="core redex bus cortex"
	[rpc]="core redex bus"
	[mesh]="core redex bus"
	[adapters]="core redex bus"
)

for dir in src/*/; do
	folder=$(basename "$dir")
	[ -d "$dir" ] || continue
	if [ -z "${below[$folder]+known}" ]; then
		echo "src/$folder: unknown folder; give it a place in test/check_layers.sh"
		status=1
		continue
	fi
	while IFS=: read -r file line text; do
		target=$(sed -E 's/.*"(\.\.\/)?([a-z]+)\/.*/\2/' <<< "$text")
		[ -n "${below[$target]+known}" ] || continue # PostgreSQL's own
		case " $folder ${below[$folder]} " in
			*" $target "*) ;;
			*) echo "$file:$line: src/$folder may not include a header of $target"; status=1 ;;
		esac
	done < <(grep -rnHE --include='*.[ch]' '^[[:space:]]*#[[:space:]]*include[[:space:]]*"(\.\./)?[a-z]+/' "$dir" || true)
done

# Overloads share a name: count the statements for each kind and name.
for sql in src/*/*.sql; do
	[ -e "$sql" ] || continue
	sed 's/--.*//' "$sql" | tr '\n\t' '  ' | tr -s ' ' | tr 'A-Z' 'a-z' |
	grep -oE '(create( or replace)?|comment on) (function|procedure|aggregate|view) [a-z0-9_."]+' |
	sed -E 's/create( or replace)? /create /; s/comment on /comment /; s/"//g; s/ netbus\./ /' |
	awk -v file="$sql" '
		{ n[$2 " " $3, $1]++; seen[$2 " " $3] = 1 }
		END {
			for (o in seen)
				if (n[o, "create"] > n[o, "comment"]) {
					printf "%s: %d of %d COMMENT ON %s\n", file, n[o, "comment"], n[o, "create"], o
					bad = 1
				}
			exit bad
		}' || status=1
done
exit $status
