"""pillow: pictures drawn, filtered, written and read."""

from PIL import Image, ImageDraw, ImageFilter
import io, random, hashlib, time

im = Image.new("RGB", (200, 200))
d = ImageDraw.Draw(im)
for _ in range(50):
    d.ellipse(
        [random.randrange(200) for _ in range(2)] + [200, 200], fill=tuple(random.randrange(256) for _ in range(3))
    )
im = im.filter(ImageFilter.GaussianBlur(2)).rotate(30)
im.save("x.png")
im.save("x.jpg")
for n in ("x.png", "x.jpg"):
    b = open(n, "rb").read()
    print(n, len(b), hashlib.md5(b).hexdigest())
    i2 = Image.open(n)
    print(i2.size, i2.getpixel((5, 5)), i2)
im.effect_noise((10, 10), 5) if hasattr(im, "effect_noise") else None
print(hashlib.md5(Image.effect_noise((50, 50), 20).tobytes()).hexdigest())
