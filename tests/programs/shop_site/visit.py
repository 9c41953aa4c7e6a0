"""Migrations, the admin, sessions, transactions and the ORM's functions, through Django's test client."""

import os

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
django.setup()

from django.contrib.auth.models import User  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import transaction  # noqa: E402
from django.db.models import F, Q, Sum, functions  # noqa: E402
from django.test import Client  # noqa: E402
from shop.models import Item  # noqa: E402

call_command("migrate")
User.objects.create_superuser("root", "root@example.com", "secret")
client = Client()
print(client.login(username="root", password="secret"), client.get("/admin/").status_code)
added = client.post("/admin/shop/item/add/", {"name": "a", "price": "3.50", "tags": "[1]"}, follow=True)
print(added.status_code, added.redirect_chain, Item.objects.count())
for k in range(6):
    print(client.get(f"/items/{k}").json(), client.session["last"])
try:
    with transaction.atomic():
        Item.objects.create(name="b", price=4)
        raise LookupError
except LookupError:
    print("rolled back to", Item.objects.count())
with transaction.atomic():
    point = transaction.savepoint()
    Item.objects.create(name="c", price=9)
    transaction.savepoint_rollback(point)
Item.objects.bulk_create([Item(name=f"x{k}", price=k) for k in range(50)])
print(Item.objects.filter(Q(name__startswith="x") & Q(price__gt=30)).aggregate(Sum("price")))
computed = Item.objects.annotate(upper=functions.Upper("name"), md5=functions.MD5("name"), day=functions.TruncDay("at"))
print(computed.values_list("upper", "md5", "day").last())
Item.objects.update(price=F("price") * 2)
print(list(Item.objects.order_by("-price").values("name", "price")[:2]), Item.objects.latest("at").at)
print(client.get("/admin/shop/item/").status_code, sum(1 for _ in Item.objects.iterator(chunk_size=10)))
call_command("check")
client.logout()
print(client.get("/admin/").status_code)
