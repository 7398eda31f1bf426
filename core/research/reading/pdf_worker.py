"""The text of a PDF, and what stands at an address: done by a process of its own. (core.research.reading.worker)

`paper_child.py pdf FILE PAGES CHARACTERS` answers {"pages": [text, ...], "total": N, "title": T}.
`paper_child.py fetch ADDRESS FILE BYTES SECONDS` writes FILE and answers {"type": content type}.
Either answers {"wrong": why} when it cannot.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

MEMORY = 2 << 30  # bytes of address space
CPU_SECONDS = 60
AGENT = "autoresearch-tui (a research tool; one request every three seconds)"


def pdf(path: str, pages: int, characters: int) -> dict[str, Any]:
    """The text of the first `pages` pages, `characters` in all at most. A page that cannot be read is empty."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            return {"wrong": "it is encrypted, and needs a password"}
        total = len(reader.pages)
        title = str((reader.metadata.title if reader.metadata else None) or "")
    except PyPdfError as error:
        locked = "encrypt" in str(error).lower() or "cryptography" in str(error).lower()
        return {"wrong": "it is encrypted" if locked else f"it is broken: {str(error)[:200] or type(error).__name__}"}
    except Exception as error:  # whatever a broken file does to the parser
        return {"wrong": f"it is broken: {type(error).__name__}: {str(error)[:200]}"}
    texts: list[str] = []
    for number in range(min(total, pages)):
        try:
            text = reader.pages[number].extract_text() or ""
        except Exception:  # one bad page costs that page
            text = ""
        texts.append(text[:characters])
        characters -= len(text)
        if characters <= 0:
            break
    return {"pages": texts, "total": total, "title": title[:300]}


def fetch(address: str, target: str, most: int, seconds: float) -> dict[str, Any]:
    """Write what stands at `address` to `target`, at most `most` bytes of it."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    request = urllib.request.Request(address, headers={"User-Agent": AGENT})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            body = answer.read(most + 1)
            kind = str(answer.headers.get_content_type())
    except urllib.error.HTTPError as error:
        return {"wrong": f"HTTP {error.code}", "status": error.code, "after": error.headers.get("Retry-After") or ""}
    except urllib.error.URLError as error:
        return {"wrong": f"cannot be reached ({error.reason})"}
    except (OSError, ValueError, HTTPException) as error:
        return {"wrong": f"broke off ({str(error) or type(error).__name__})"}
    if len(body) > most:
        return {"wrong": f"sends more than {most:,} bytes"}
    Path(target).write_bytes(body)
    return {"type": kind}


def main(words: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS, CPU_SECONDS))
    if words[0] == "pdf":
        answer = pdf(words[1], int(words[2]), int(words[3]))
    else:
        answer = fetch(words[1], words[2], int(words[3]), float(words[4]))
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MemoryError:
        print(json.dumps({"wrong": "it takes more memory than it may"}))
