"""lxml, orjson and pydantic, with files and clocks."""

import datetime
import os
import tempfile

import orjson
import pydantic
from lxml import etree, html

folder = tempfile.mkdtemp()
source, copy = os.path.join(folder, "source.xml"), os.path.join(folder, "copy.xml")
with open(source, "w") as file:
    file.write("<list><item at='1'>one</item><item at='2'>two</item></list>")
tree = etree.parse(source)
print([(item.get("at"), item.text) for item in tree.iter("item")], tree.docinfo.URL == source)
tree.getroot().append(etree.Element("item", at=datetime.datetime.now().isoformat()))
tree.write(copy, pretty_print=True)
print(open(copy).read(), etree.tostring(etree.parse(copy)))
for broken in ("/nowhere/at all.xml", folder):
    try:
        etree.parse(broken)
    except OSError as error:
        print(type(error), "failed to load" in str(error) or error)
try:
    etree.fromstring("<open>")
except etree.XMLSyntaxError as error:
    print(error)
print(html.fromstring("<p>text<b>bold").text_content())


class Order(pydantic.BaseModel):
    number: int
    lines: list[str] = []
    placed: datetime.datetime = pydantic.Field(default_factory=datetime.datetime.now)


print(Order(number="7", lines=["x"]), Order.model_validate_json('{"number": 1}').model_dump_json())
try:
    Order(number="seven")
except pydantic.ValidationError as error:
    print(error)
print(orjson.dumps({"now": datetime.datetime.now(), "n": [1, 2.5, None]}), orjson.loads(b'[1, {"a": "\\u00e9"}]'))
