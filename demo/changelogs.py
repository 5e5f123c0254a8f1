"""Debian changelogs as newline-delimited JSON, one line an entry, oldest first.

    changelogs.py OUTPUT MAX_BYTES [ROOT]

An entry looks like this, and the files are full of exceptions to it:

    package (version) distribution; urgency=medium

      * What changed.

     -- Maintainer <address>  Fri, 13 Nov 2026 12:12:04 +0100

Several binary packages carry the changelog of their common source: such an
entry is taken once.  Of more than MAX_BYTES the newest are taken.  Standard
output gets numbers: files that had entries, entries, distinct entries, entries
written, bytes written.

Minimal systems are installed without these files.  There the installed packages
make do: an entry each, dated by its installation.
"""

import glob
import gzip
import json
import os
import re
import subprocess
import sys
import zlib
from datetime import datetime, timedelta, timezone

HEAD = re.compile(r'([a-z0-9][a-z0-9+.-]*) \(([^()\s]+)\)((?: [\w./+-]+)*);(.*)')
SIGNED = re.compile(r' -- *(.*?)\s*(?:<[^>]*>\s*|  )(\S.*)')
DATE = re.compile(r'(?:\w+,?\s+)?(\d{1,2})\s+([A-Z][a-z]{2})\w*\s+(\d{4})\s+(\d{1,2}):(\d{2})(?::(\d{2}))?\s*([+-]\d{4})?')
MONTHS = 'Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec'.split()


def moment(text):
    """The date of a changelog entry in UTC, None if it is not one."""
    found = DATE.match(text)
    if not found:
        return None
    day, month, year, hour, minute, second, zone = found.groups()
    offset = int((zone or '+0')[:3]) * 60 + int((zone or '+0000')[0] + (zone or '+0000')[3:])
    try:
        local = datetime(int(year), MONTHS.index(month) + 1, int(day), int(hour), int(minute), int(second or 0))
        return (local - timedelta(minutes=offset)).replace(tzinfo=timezone.utc)
    except (ValueError, OverflowError):
        return None


def decode(data):
    """Entries of the last century are not in UTF-8."""
    try:
        return data.decode('utf-8')
    except UnicodeDecodeError:
        return data.decode('latin-1')


def entries(text):
    """Every entry of a changelog that has a head and a signature."""
    head = None
    body = []
    for line in text.split('\n'):
        if line[:1] not in ('', ' ', '\t'):
            found = HEAD.match(line)
            head, body = found, []
            continue
        if head is None:
            continue
        found = SIGNED.match(line)
        if not found:
            body.append(line.rstrip())
            continue
        when = moment(found.group(2))
        if when:
            package, version, distribution, options = head.groups()
            urgency = re.search(r'urgency\s*=\s*([a-z]+)', options.lower())
            yield {
                'package': package,
                'version': version,
                'distribution': distribution.strip(),
                'urgency': urgency.group(1) if urgency else 'unknown',
                'maintainer': found.group(1),
                'date': when.strftime('%Y-%m-%dT%H:%M:%SZ'),
                'text': '\n'.join(body).strip('\n').replace('\x00', ''),
            }
        head = None


def installed():
    """The installed packages as entries."""
    fields = '${Package}\\t${Version}\\t${Maintainer}\\t${binary:Package}\\t${binary:Summary}\\n'
    listing = subprocess.run(['dpkg-query', '-W', '-f', fields], capture_output=True, check=False).stdout
    for line in listing.decode('utf-8', 'replace').splitlines():
        package, version, maintainer, name, summary = line.split('\t')
        try:
            when = os.stat(f'/var/lib/dpkg/info/{name}.list').st_mtime
        except OSError:
            when = 0
        yield {
            'package': package,
            'version': version,
            'distribution': '',
            'urgency': 'unknown',
            'maintainer': maintainer.split(' <')[0],
            'date': datetime.fromtimestamp(int(when), timezone.utc).strftime('%Y-%m-%dT%H:%M:%SZ'),
            'text': '  * Installed: ' + summary,
        }


def main(output, max_bytes, root='/usr/share/doc'):
    seen = {}
    opened = set()
    files = total = 0
    for path in sorted(glob.glob(os.path.join(root, '*', 'changelog*.gz'))):
        real = os.path.realpath(path)
        if real in opened:
            continue
        opened.add(real)
        try:
            with gzip.open(real) as file:
                found = list(entries(decode(file.read())))
        except (OSError, EOFError, zlib.error):
            continue
        files += bool(found)
        total += len(found)
        for entry in found:
            seen.setdefault((entry['package'], entry['version'], entry['date']), entry)

    if not seen:
        for entry in installed():
            total += 1
            seen.setdefault((entry['package'], entry['version'], entry['date']), entry)

    lines = []
    size = 0
    newest_first = sorted(seen.values(), key=lambda e: (e['date'], e['package'], e['version']), reverse=True)
    for entry in newest_first:
        line = json.dumps(entry, ensure_ascii=False, separators=(',', ':')).encode() + b'\n'
        size += len(line)
        if size > int(max_bytes):
            size -= len(line)
            break
        lines.append(line)
    with open(output, 'wb') as file:
        file.writelines(reversed(lines))
    print(files, total, len(seen), len(lines), size)


main(*sys.argv[1:])
