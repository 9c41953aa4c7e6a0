from django.contrib import admin
from django.db.models import Avg, StdDev
from django.http import JsonResponse
from django.urls import path

from .models import Item


def items(request, k):
    """Adds an item at every fifth request; counts, and uses functions that Django defines in SQLite."""
    if k % 5 == 0:
        Item.objects.create(name=f"n{k}", price="1.25", tags=[k])
    request.session["last"] = k
    prices = Item.objects.aggregate(Avg("price"), StdDev("price"))
    names = Item.objects.filter(name__iregex="^N").values_list("name", flat=True)
    return JsonResponse({"count": Item.objects.count(), "prices": str(prices), "names": list(names[:3])})


urlpatterns = [path("admin/", admin.site.urls), path("items/<int:k>", items)]
