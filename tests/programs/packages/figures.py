"""matplotlib without a screen: figures as PNG, SVG and PDF."""

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt, numpy as np, hashlib, io, time

rng = np.random.default_rng()
x = rng.normal(size=500)
f, ax = plt.subplots(2)
ax[0].hist(x)
ax[1].plot(x.cumsum(), label=f"t {time.time()}")
ax[1].legend()
for fmt in ("png", "svg", "pdf"):
    b = io.BytesIO()
    f.savefig(b, format=fmt)
    print(fmt, hashlib.md5(b.getvalue()).hexdigest())
f.savefig("f.png")
print(len(open("f.png", "rb").read()), ax)
