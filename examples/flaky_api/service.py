"""A service that asks a flaky API for prices until an answer cannot be parsed: `service.py URL`."""

import datetime
import itertools
import json
import random
import sys
import uuid

import requests

SYMBOLS = ("AAPL", "ASML", "MSFT", "NVDA", "SHEL")


def latest_price(session, api, symbol):
    """The price of a symbol, in euros."""
    headers = {"X-Request-Id": str(uuid.uuid4())}
    response = session.get(f"{api}/price/{symbol}", headers=headers, timeout=10)
    response.raise_for_status()
    text = response.text
    try:
        return json.loads(text)["price"]
    except json.JSONDecodeError:
        print(f"the API answered with {text!r}", file=sys.stderr)
        raise


def main():
    api = sys.argv[1]
    with requests.Session() as session:
        for number in itertools.count(1):
            symbol = random.choice(SYMBOLS)
            price = latest_price(session, api, symbol)
            print(f"{datetime.datetime.now():%H:%M:%S.%f} {number:4} {symbol} {price:8.2f}")


if __name__ == "__main__":
    main()
