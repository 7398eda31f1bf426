"""Worker process that extracts the text of a PDF, or downloads a file.

`pdf_worker.py pdf FILE PAGES CHARACTERS` answers {"pages": [text, ...], "total": N, "title": T}.
`pdf_worker.py fetch ADDRESS FILE BYTES SECONDS` writes FILE and answers {"type": content type}.
Either answers {"error": reason} when it fails.
"""

from __future__ import annotations

import json
import logging
import resource
import sys
import warnings
from pathlib import Path
from typing import Any

MAX_MEMORY = 2 << 30  # bytes of address space
MAX_CPU_SECONDS = 60
USER_AGENT = "autoresearch-tui (a research tool; one request every three seconds)"


def pdf(path: str, pages: int, characters: int) -> dict[str, Any]:
    """Text of the first `pages` pages, at most `characters` in all. A page that cannot be read is empty."""
    from pypdf import PdfReader
    from pypdf.errors import PyPdfError

    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    try:
        reader = PdfReader(path)
        if reader.is_encrypted and not reader.decrypt(""):
            return {"error": "it is encrypted with a password"}
        total = len(reader.pages)
        title = str((reader.metadata.title if reader.metadata else None) or "")
    except PyPdfError as error:
        locked = "encrypt" in str(error).lower() or "cryptography" in str(error).lower()
        return {"error": "it is encrypted" if locked else f"it is broken: {str(error)[:200] or type(error).__name__}"}
    except Exception as error:  # a broken file can raise anything in the parser
        return {"error": f"it is broken: {type(error).__name__}: {str(error)[:200]}"}
    texts: list[str] = []
    for number in range(min(total, pages)):
        try:
            text = reader.pages[number].extract_text() or ""
        except Exception:  # one bad page is skipped
            text = ""
        texts.append(text[:characters])
        characters -= len(text)
        if characters <= 0:
            break
    return {"pages": texts, "total": total, "title": title[:300]}


def fetch(address: str, target: str, most: int, seconds: float) -> dict[str, Any]:
    """Download `address` to `target`; an error beyond `most` bytes."""
    import urllib.error
    import urllib.request
    from http.client import HTTPException

    request = urllib.request.Request(address, headers={"User-Agent": USER_AGENT})
    try:
        with urllib.request.urlopen(request, timeout=seconds) as answer:
            body = answer.read(most + 1)
            kind = str(answer.headers.get_content_type())
    except urllib.error.HTTPError as error:
        return {"error": f"HTTP {error.code}", "status": error.code, "after": error.headers.get("Retry-After") or ""}
    except urllib.error.URLError as error:
        return {"error": f"cannot be reached ({error.reason})"}
    except (OSError, ValueError, HTTPException) as error:
        return {"error": f"broke off ({str(error) or type(error).__name__})"}
    if len(body) > most:
        return {"error": f"sends more than {most:,} bytes"}
    Path(target).write_bytes(body)
    return {"type": kind}


def main(arguments: list[str]) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_SECONDS, MAX_CPU_SECONDS))
    if arguments[0] == "pdf":
        answer = pdf(arguments[1], int(arguments[2]), int(arguments[3]))
    else:
        answer = fetch(arguments[1], arguments[2], int(arguments[3]), float(arguments[4]))
    print(json.dumps(answer))


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except MemoryError:
        print(json.dumps({"error": "it exceeds the memory limit"}))
