"""requests over TLS to a local server with a self-signed certificate. Arguments: URL, certificate."""

import ssl
import sys
import urllib.request

import requests

url, certificate = sys.argv[1:]
with requests.Session() as session:
    session.verify = certificate
    for number in range(3):
        answer = session.get(f"{url}/item/{number}", params={"q": "x y"}, timeout=10)
        print(answer.status_code, answer.json(), dict(answer.headers), answer.elapsed)
    answer = session.post(f"{url}/echo", json={"numbers": list(range(500))}, timeout=10)
    print(answer.status_code, len(answer.content), answer.text[:60], answer.request.headers)
    with session.get(f"{url}/large", stream=True, timeout=10) as answer:
        print(sum(len(piece) for piece in answer.iter_content(10_000)), answer.raw.version)
    print(session.get(f"{url}/missing", timeout=10).status_code, session.cookies.get_dict())
try:
    requests.get(url, timeout=10)
except requests.exceptions.SSLError as error:
    print(type(error).__name__, "CERTIFICATE_VERIFY_FAILED" in str(error))

context = ssl.create_default_context(cafile=certificate)
with urllib.request.urlopen(f"{url}/item/9", context=context) as answer:
    print(answer.status, answer.read(), answer.headers["Date"])
    print(answer.fp.raw._sock.version() if answer.fp else None, context.cert_store_stats())
