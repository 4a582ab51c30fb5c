"""The peer of `flow-bench tensor`: the same cases in plain PyTorch modules, with the same numbers.

peer.py CASE THREADS RUNS prints one line of JSON as flow-bench does. Where torch has more than one way (fused or plain),
each is tried and the fastest is timed.
"""
import json
import math
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn


def peak():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return 0


EMPTY = peak()
MASK32 = 0xFFFFFFFF


def hashed(stream, shape):
    """Numbers in -1..<1: a hash of position and stream, as flow-bench makes them."""
    count = math.prod(shape)
    x = (torch.arange(count, dtype=torch.int64) + stream * 7919) & MASK32
    x = (x * 2654435761) & MASK32
    x = x ^ (x >> 15)
    x = (x * 2246822519) & MASK32
    x = x ^ (x >> 13)
    return (x.double() / 2147483648 - 1).float().reshape(shape)


def fill(module):
    """Gives every parameter of a module the value that flow-bench gives it."""
    with torch.no_grad():
        for index, (name, p) in enumerate(sorted(module.named_parameters())):
            values = hashed(index, tuple(p.shape))
            if p.dim() > 1 and p.numel() > p.shape[0]:
                p.copy_(values / math.sqrt(p.numel() / p.shape[0]))
            else:
                offset = name.endswith(("bias", "alpha", "beta"))
                p.copy_(values * 0.1 + (0 if offset else 1))


# The transformer.


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-6)


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(dim, dim, bias=False))
        self.q_norm, self.k_norm = RMSNorm(dim // heads), RMSNorm(dim // heads)

    def forward(self, x, cos, sin, mask):
        b, n, dim = x.shape

        def split(t):
            return t.view(b, n, self.heads, dim // self.heads)

        def rotate(t):
            half = t.shape[-1] // 2
            return t * cos + torch.cat((-t[..., half:], t[..., :half]), -1) * sin

        q = rotate(self.q_norm(split(self.q_proj(x))).transpose(1, 2))
        k = rotate(self.k_norm(split(self.k_proj(x))).transpose(1, 2))
        y = F.scaled_dot_product_attention(q, k, split(self.v_proj(x)).transpose(1, 2), attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).reshape(b, n, dim))


class MLP(nn.Module):
    def __init__(self, dim, inner):
        super().__init__()
        self.gate_proj = nn.Linear(dim, inner, bias=False)
        self.up_proj = nn.Linear(dim, inner, bias=False)
        self.down_proj = nn.Linear(inner, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(dim), RMSNorm(dim)
        self.self_attn, self.mlp = Attention(dim, heads), MLP(dim, 4 * dim)

    def forward(self, h, cos, sin, mask):
        h = h + self.self_attn(self.input_layernorm(h), cos, sin, mask)
        return h + self.mlp(self.post_attention_layernorm(h))


class Part(nn.Module):
    """Holds children by name, so that parameters are called as in the checkpoint."""

    def __init__(self, **children):
        super().__init__()
        for name, child in children.items():
            self.add_module(name, child)


class DiT(nn.Module):
    def __init__(self, dim, depth, heads, channels=64, cond=512):
        super().__init__()
        self.latent_embed = nn.ModuleList([nn.Linear(channels, cond), nn.Linear(cond, cond)])
        self.time_embed = Part(time_mlp=nn.Sequential(nn.Linear(256, cond), nn.SiLU(), nn.Linear(cond, cond)))
        self.input_embed = Part(proj=nn.Linear(cond, cond), proj_2=nn.Linear(cond, dim))
        self.transformer_blocks = nn.ModuleList([Layer(dim, heads) for _ in range(depth)])
        self.norm_out = Part(linear=nn.Linear(cond, 2 * dim))
        self.proj_out = nn.Linear(dim, channels)
        width = dim // heads
        self.register_buffer("frequencies", torch.exp(torch.arange(128) * -(math.log(10000) / 127)))
        angle = torch.arange(512)[:, None] * 10000 ** (-2 * torch.arange(width // 2) / width)
        angle = torch.cat((angle, angle), -1)
        self.register_buffer("cos", angle.cos())
        self.register_buffer("sin", angle.sin())

    def forward(self, latents, time, style, mask):
        x = self.latent_embed[1](self.latent_embed[0](latents))
        angle = (1000 * time)[..., None] * self.frequencies
        c = self.time_embed.time_mlp(torch.cat((angle.sin(), angle.cos()), -1))
        h = self.input_embed.proj_2(self.input_embed.proj(x + style[:, None] + c) + x)
        for layer in self.transformer_blocks:
            h = layer(h, self.cos, self.sin, mask)
        scale, shift = self.norm_out.linear(F.silu(c)).chunk(2, -1)
        return self.proj_out(F.layer_norm(h, (h.shape[-1],), eps=1e-6) * (1 + scale) + shift)


def dit(dim, depth, heads, batch):
    def make(fused):
        model = DiT(dim, depth, heads)
        fill(model)
        shapes = {
            "latents": (batch, 512, 64), "time": (batch, 512), "style": (batch, 512), "target": (batch, 512, 64),
        }
        data = {name: hashed(1000 + i, shapes[name]) for i, name in enumerate(sorted(shapes))}
        mask = torch.ones(512, 512, dtype=torch.bool).tril()
        optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=fused)

        def step():
            optimizer.zero_grad(set_to_none=True)
            loss = F.mse_loss(model(data["latents"], data["time"], data["style"], mask), data["target"])
            loss.backward()
            optimizer.step()
            return loss.item()

        return step

    return [lambda: (make(True), None), lambda: (make(False), None)]


# The vocoder.


def kaiser_sinc():
    n = torch.arange(12, dtype=torch.float64) - 5.5
    beta = 0.1102 * (2.285 * 5 * math.pi * 1.2 + 7.95 - 8.7)
    window = torch.kaiser_window(12, periodic=False, beta=beta, dtype=torch.float64)
    taps = 0.5 * window * torch.sinc(0.5 * n)
    return (taps / taps.sum()).float().view(1, 1, 12)


def snake(x, alpha, beta):
    a, b = alpha.exp()[:, None], beta.exp()[:, None]
    return x + torch.sin(x * a).pow(2) / (b + 1e-9)


def alias_free(x, alpha, beta, taps):
    channels = x.shape[1]
    taps = taps.expand(channels, 1, 12)
    x = 2 * F.conv_transpose1d(F.pad(x, (5, 5), "replicate"), taps, stride=2, groups=channels)[..., 15:-15]
    return F.conv1d(F.pad(snake(x, alpha, beta), (5, 6), "replicate"), taps, stride=2, groups=channels)


class Activation(nn.Module):
    def __init__(self, channels, taps):
        super().__init__()
        self.act = Part()
        self.act.alpha, self.act.beta = nn.Parameter(torch.zeros(channels)), nn.Parameter(torch.zeros(channels))
        self.taps = taps

    def forward(self, x):
        return alias_free(x, self.act.alpha, self.act.beta, self.taps)


class Convolution(nn.Module):
    """Weight-normalised over the first axis, active in training."""

    def __init__(self, shape, bias, apply):
        super().__init__()
        self.weight_v = nn.Parameter(torch.zeros(shape))
        self.weight_g = nn.Parameter(torch.ones(shape[0], 1, 1))
        self.bias = nn.Parameter(torch.zeros(bias)) if bias else None
        self.apply = apply

    def forward(self, x):
        return self.apply(x, torch._weight_norm(self.weight_v, self.weight_g, 0), self.bias)


def convolution(inputs, outputs, taps, dilation=1, bias=True):
    padding = dilation * (taps - 1) // 2
    return Convolution(
        (outputs, inputs, taps), outputs if bias else 0,
        lambda x, w, b: F.conv1d(x, w, b, padding=padding, dilation=dilation))


class Block(nn.Module):
    def __init__(self, channels, taps, filters):
        super().__init__()
        self.convs1 = nn.ModuleList([convolution(channels, channels, taps, d) for d in (1, 3, 5)])
        self.convs2 = nn.ModuleList([convolution(channels, channels, taps) for _ in range(3)])
        self.activations = nn.ModuleList([Activation(channels, filters) for _ in range(6)])

    def forward(self, x):
        for j in range(3):
            y = self.convs1[j](self.activations[2 * j](x))
            x = x + self.convs2[j](self.activations[2 * j + 1](y))
        return x


class Vocoder(nn.Module):
    def __init__(self, rates, kernels, channels=256):
        super().__init__()
        filters = kaiser_sinc()
        self.conv_pre = convolution(64, channels, 7)
        self.ups, self.resblocks = nn.ModuleList(), nn.ModuleList()
        for rate, size in zip(rates, kernels):
            up = Convolution(
                (channels, channels // 2, size), channels // 2,
                lambda x, w, b, s=rate, p=(size - rate) // 2: F.conv_transpose1d(x, w, b, stride=s, padding=p))
            self.ups.append(nn.ModuleList([up]))
            channels //= 2
            self.resblocks.extend(Block(channels, taps, filters) for taps in (3, 7, 11))
        self.activation_post = Activation(channels, filters)
        self.conv_post = convolution(channels, 1, 7, bias=False)

    def forward(self, x):
        x = self.conv_pre(x)
        for i, up in enumerate(self.ups):
            x = up[0](x)
            x = sum(block(x) for block in self.resblocks[3 * i : 3 * i + 3]) / 3
        return self.conv_post(self.activation_post(x)).clamp(-1, 1)


def vocoder(rates, kernels, frames):
    def make():
        model = Vocoder(rates, kernels)
        fill(model)
        latents = hashed(1000, (1, 64, frames))

        def step():
            model.zero_grad(set_to_none=True)
            loss = model(latents).abs().mean()
            loss.backward()
            return loss.item()

        return step, None

    return [make]


# Kernels.


def forward(shapes, body):
    def make():
        x = [hashed(i, s) for i, s in enumerate(shapes)]

        def run():
            with torch.no_grad():
                return body(*x)

        def check():
            return run().abs().mean().item()

        return (lambda: run() is None), check

    return [make]


def both(shapes, *bodies):
    def make(body):
        x = [hashed(i, s).requires_grad_() for i, s in enumerate(shapes)]
        g = None

        def run():
            nonlocal g
            y = body(*x)
            if g is None:
                g = hashed(99, tuple(y.shape))
            return y, torch.autograd.grad(y, x, g)

        def check():
            y, grads = run()
            return y.abs().mean().item() + sum(d.abs().mean().item() for d in grads)

        return (lambda: run() is None), check

    return [lambda body=body: make(body) for body in bodies]


def adamw():
    def make(fused):
        p = nn.Parameter(hashed(0, (4096, 1024)))
        p.grad = hashed(1, (4096, 1024))
        optimizer = torch.optim.AdamW([p], lr=0.001, weight_decay=0.01, fused=fused, foreach=not fused)
        return (lambda: optimizer.step()), (lambda: p.abs().mean().item())

    return [lambda: make(True), lambda: make(False)]


def plain_rms(x, w):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + 1e-6) * w


def mel_filters(rate, fft, bands):
    """Slaney's triangles, as flow's MelFilters."""

    def mel(f):
        return f * 3 / 200 if f < 1000 else 15 + math.log(f / 1000) / (math.log(6.4) / 27)

    def hertz(m):
        return m * 200 / 3 if m < 15 else 1000 * math.exp((m - 15) * math.log(6.4) / 27)

    edges = [hertz(mel(rate / 2) * i / (bands + 1)) for i in range(bands + 2)]
    f = torch.arange(fft // 2 + 1, dtype=torch.float64) * rate / fft
    rows = []
    for low, centre, high in zip(edges, edges[1:], edges[2:]):
        rows.append(torch.minimum((f - low) / (centre - low), (high - f) / (high - centre)).clamp(min=0) * 2 / (high - low))
    return torch.stack(rows).float()


def stft():
    window, filters = torch.hann_window(1024), mel_filters(24000, 1024, 80)

    def body(x):
        s = torch.stft(x[:, 0], 1024, 256, window=window, center=True, pad_mode="reflect", return_complex=True)
        magnitude = (s.real.square() + s.imag.square() + 1e-30).sqrt()
        return magnitude.transpose(1, 2) @ filters.T

    return both([(4, 1, 65536)], body)


def attention(q, k, v):
    return F.scaled_dot_product_attention(q, k, v, attn_mask=LOWER)


LOWER = torch.ones(512, 512, dtype=torch.bool).tril()
CASES = {
    "dit-256": lambda: dit(256, 4, 4, 4),
    "dit-512": lambda: dit(512, 8, 8, 2),
    "vocoder-4800": lambda: vocoder((8, 5, 5, 4, 3, 2), (16, 11, 11, 8, 7, 4), 5),
    "vocoder-256": lambda: vocoder((4, 4, 2, 2, 2, 2), (8, 8, 4, 4, 4, 4), 94),
    **{f"gemm-{n}": lambda n=n: forward([(n, n), (n, n)], torch.matmul) for n in (512, 1024, 2048, 4096)},
    **{
        f"linear-1024x{n}x{k}": lambda n=n, k=k: both([(1024, k), (n, k)], F.linear)
        for n, k in ((4096, 1024), (1024, 4096))
    },
    "qk-64x512x512x64": lambda: both([(64, 512, 64), (64, 512, 64)], lambda a, b: a @ b.transpose(1, 2)),
    "pv-64x512x64x512": lambda: both([(64, 512, 512), (64, 512, 64)], torch.matmul),
    "attention-16x512x64": lambda: both([(1, 16, 512, 64)] * 3, attention),
    "conv-256x256x7": lambda: both([(1, 256, 4096), (256, 256, 7)], lambda x, w: F.conv1d(x, w, padding=3)),
    "conv-32x32x11-dilated": lambda: both(
        [(1, 32, 24000), (32, 32, 11)], lambda x, w: F.conv1d(x, w, padding=25, dilation=5)),
    "rmsnorm": lambda: both(
        [(4096, 1024), (1024,)], lambda x, w: F.rms_norm(x, (1024,), w, 1e-6), plain_rms),
    "swiglu": lambda: both([(4096, 1024), (4096, 1024)], lambda a, b: F.silu(a) * b),
    "softmax": lambda: both([(8192, 512)], lambda x: x.softmax(-1)),
    "snake": lambda: both(
        [(1, 64, 24000), (64,), (64,)], lambda x, a, b, taps=kaiser_sinc(): alias_free(x, a, b, taps)),
    "stft": stft,
    "adamw": adamw,
}


def fastest(variants):
    """The quickest of the ways, by two runs after one to warm up."""
    if len(variants) == 1:
        return variants[0]
    costs = []
    for variant in variants:
        run, _ = variant()
        run()
        begin = time.perf_counter()
        run(), run()
        costs.append(time.perf_counter() - begin)
    return variants[costs.index(min(costs))]


def main():
    if len(sys.argv) != 4 or sys.argv[1] not in CASES:
        sys.exit(f"usage: peer.py CASE THREADS RUNS; cases: {', '.join(sorted(CASES))}")
    name, threads, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    torch.set_num_threads(threads)
    run, check = fastest(CASES[name]())()
    first = value = run()
    wall, cpu = [], []
    for _ in range(runs):
        begin, used = time.perf_counter(), time.process_time()
        value = run()
        cpu.append(time.process_time() - used)
        wall.append(time.perf_counter() - begin)
    most = peak()
    checks = [check()] if check else [first, value]
    print(json.dumps({
        "case": name, "wall": wall, "cpu": cpu, "peak": most, "empty": EMPTY, "flop": 0, "check": checks,
    }))


main()
