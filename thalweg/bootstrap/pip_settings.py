"""Hand pip's configuration on to uv: whoever set an index, a proxy or a certificate for pip meant it for both."""

import ast
from pathlib import Path

# pip's option -> uv's environment variable. Through the environment, never a file or an argument: a value may carry a
# password.
_UV_VARIABLES = {
    "index-url": "UV_DEFAULT_INDEX",
    "extra-index-url": "UV_INDEX",
    "find-links": "UV_FIND_LINKS",
    "trusted-host": "UV_INSECURE_HOST",
    "no-index": "UV_NO_INDEX",
    "cert": "SSL_CERT_FILE",
    "proxy": "ALL_PROXY",
}
# uv takes several find-links separated by commas, the other lists by blanks.
_SEPARATORS = {"find-links": ","}
# Weakest first, as pip ranks them.
_SECTIONS = ("global", "install", ":env:")


def uv_environment(pip_config_list: str) -> dict[str, str]:
    """Return uv's environment variables for what ``pip config list`` prints (lines of ``section.option='value'``)."""
    chosen: dict[str, str] = {}
    for section in _SECTIONS:
        for line in pip_config_list.splitlines():
            name, _, quoted = line.partition("=")
            if not name.startswith(f"{section}."):
                continue
            option = name.removeprefix(f"{section}.").lstrip(".")
            if option in _UV_VARIABLES:
                chosen[option] = _unquoted(quoted)
    if "find-links" in chosen:
        # pip passes over a folder that is not there, uv refuses it.
        links = [link for link in chosen["find-links"].split() if "://" in link or Path(link).exists()]
        chosen["find-links"] = " ".join(links)
    return {
        _UV_VARIABLES[option]: _SEPARATORS.get(option, " ").join(value.split())
        for option, value in chosen.items()
        if value.strip()
    }


def _unquoted(text: str) -> str:
    try:
        return str(ast.literal_eval(text))
    except (ValueError, SyntaxError):
        return text
