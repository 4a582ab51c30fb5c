"""DiffRhythm 2's transformer in plain PyTorch modules, its block-wise flow matching, and sampling with a cache."""
import math

import torch
import torch.nn.functional as F
from torch import nn


class Sizes:
    """The published sizes or tiny ones for a try on a CPU."""

    def __init__(self, tiny):
        self.dim, self.depth, self.heads = (64, 2, 2) if tiny else (2048, 16, 16)
        self.text, self.frames, self.block = (8, 20, 10) if tiny else (200, 1050, 10)
        self.channels, self.cond, self.tokens = 64, 512, 1001
        self.batch, self.rank, self.grid, self.guidance = 4, 16, 16, 2.0


class RMSNorm(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight.to(x.dtype), 1e-6)


def rotate(x, cos, sin):
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), -1) * sin


class Attention(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.heads = heads
        for name in ("q_proj", "k_proj", "v_proj", "o_proj"):
            setattr(self, name, nn.Linear(dim, dim, bias=False))
        self.q_norm, self.k_norm = RMSNorm(dim // heads), RMSNorm(dim // heads)

    def forward(self, x, cos, sin, attend):
        b, n, dim = x.shape

        def split(t):
            return t.view(b, n, self.heads, dim // self.heads)

        q = rotate(self.q_norm(split(self.q_proj(x))).transpose(1, 2), cos, sin)
        k = rotate(self.k_norm(split(self.k_proj(x))).transpose(1, 2), cos, sin)
        y = attend(q, k, split(self.v_proj(x)).transpose(1, 2))
        return self.o_proj(y.transpose(1, 2).reshape(b, n, dim))


class MLP(nn.Module):
    def __init__(self, dim):
        super().__init__()
        self.gate_proj = nn.Linear(dim, 4 * dim, bias=False)
        self.up_proj = nn.Linear(dim, 4 * dim, bias=False)
        self.down_proj = nn.Linear(4 * dim, dim, bias=False)

    def forward(self, x):
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self, dim, heads):
        super().__init__()
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(dim), RMSNorm(dim)
        self.self_attn, self.mlp = Attention(dim, heads), MLP(dim)

    def forward(self, h, cos, sin, attend):
        h = h + self.self_attn(self.input_layernorm(h), cos, sin, attend)
        return h + self.mlp(self.post_attention_layernorm(h))


class DiT(nn.Module):
    def __init__(self, s):
        super().__init__()
        self.width = s.dim // s.heads
        self.text_embed = nn.Embedding(s.tokens, s.cond)
        self.latent_embed = nn.Sequential(nn.Linear(s.channels, s.cond), nn.Linear(s.cond, s.cond))
        self.time_mlp = nn.Sequential(nn.Linear(256, s.cond), nn.SiLU(), nn.Linear(s.cond, s.cond))
        self.proj, self.proj_2 = nn.Linear(s.cond, s.cond), nn.Linear(s.cond, s.dim)
        self.blocks = nn.ModuleList([Layer(s.dim, s.heads) for _ in range(s.depth)])
        self.norm_out, self.proj_out = nn.Linear(s.cond, 2 * s.dim), nn.Linear(s.dim, s.channels)
        self.register_buffer("frequencies", torch.exp(torch.arange(128) * -(math.log(10000) / 127)))

    def rotary(self, positions):
        inverse = 10000 ** (-torch.arange(0, self.width, 2, device=positions.device) / self.width)
        angle = positions[:, None] * torch.cat((inverse, inverse))
        return angle.cos().bfloat16(), angle.sin().bfloat16()

    def forward(self, x, time, style, rotary, attends):
        """`attends`: for each layer what attends, given queries, keys and values."""
        angle = (1000 * time)[..., None] * self.frequencies
        c = self.time_mlp(torch.cat((angle.sin(), angle.cos()), -1).to(x.dtype))
        h = self.proj_2(self.proj(x + style[:, None] + c) + x)
        for layer, attend in zip(self.blocks, attends):
            h = layer(h, *rotary, attend)
        scale, shift = self.norm_out(F.silu(c)).chunk(2, -1)
        return self.proj_out(F.layer_norm(h, (h.shape[-1],), eps=1e-6) * (1 + scale) + shift)


class LowRank(nn.Module):
    """A frozen layer and low-rank parameters beside it."""

    def __init__(self, base, rank):
        super().__init__()
        self.base = base
        self.down = nn.Parameter(torch.randn(rank, base.in_features) / math.sqrt(base.in_features))
        self.up = nn.Parameter(torch.randn(base.out_features, rank) * 0.01)

    def forward(self, x):
        return self.base(x) + F.linear(F.linear(x, self.down), self.up) * 2


def adapted(model, rank):
    """The model in bfloat16 with low-rank float32 parameters on the seven layers of each block; their list."""
    model.bfloat16().requires_grad_(False)
    model.frequencies = model.frequencies.float()
    for layer in model.blocks:
        for part in (layer.self_attn, layer.mlp):
            for name, child in list(part.named_children()):
                if isinstance(child, nn.Linear):
                    setattr(part, name, LowRank(child, rank).to(child.weight.device))
    return [p for p in model.parameters() if p.requires_grad]


def may_attend(s, device):
    """[1, 1, N, N]: text sees text; a clean block the text, those before and itself; a noisy one the text, the clean ones
    before, and itself."""
    kind = torch.cat((torch.zeros(s.text), torch.ones(s.frames), torch.full((s.frames,), 2))).to(device)
    block = torch.arange(s.frames, device=device) // s.block
    block = torch.cat((torch.full((s.text,), -1, device=device), block, block))
    (q, k), (qb, kb) = (kind[:, None], kind[None]), (block[:, None], block[None])
    mask = (k == 0) | ((q == 1) & (k == 1) & (kb <= qb)) | ((q == 2) & (k == 1) & (kb < qb))
    return (mask | ((q == 2) & (k == 2) & (kb == qb)))[None, None]


def flow_loss(model, s, data, attends):
    text, clean, noisy = (
        model.text_embed(data["text"]), model.latent_embed(data["clean"]), model.latent_embed(data["noisy"]))
    x = torch.cat((text.to(clean.dtype), clean, noisy), 1)
    known = torch.cat((torch.full((s.text,), -1.0), torch.ones(s.frames))).to(x.device)
    time = torch.cat((known.expand(s.batch, -1), data["time"]), 1)
    velocity = model(x, time, data["style"].to(x.dtype), data["rotary"], attends)[:, s.text + s.frames :]
    error = (velocity.float() - data["target"]).square() * data["valid"][..., None]
    return error.sum() / (data["valid"].sum() * s.channels)


def flow_batch(model, s, device):
    shape = (s.batch, s.frames, s.channels)
    positions = torch.cat((torch.arange(s.text), torch.arange(s.frames), torch.arange(s.frames)))
    time = torch.rand(s.batch, s.frames // s.block).repeat_interleave(s.block, 1)
    data = {
        "text": torch.randint(0, s.tokens, (s.batch, s.text)), "clean": torch.randn(shape),
        "noisy": torch.randn(shape), "time": time, "target": torch.randn(shape),
        "style": torch.randn(s.batch, s.cond), "valid": torch.ones(s.batch, s.frames),
    }
    data = {name: value.to(device) for name, value in data.items()}
    data["rotary"] = model.rotary(positions.to(device))
    return data


@torch.no_grad()
def sample(model, s, frames, device, each_block):
    """A song of `frames` latent frames in bfloat16; both branches of the guidance are one batch."""
    blocks = (frames + s.block - 1) // s.block
    width, most = s.dim // s.heads, s.text + blocks * s.block
    cache = [torch.zeros(2, 2, s.heads, most, width, device=device, dtype=torch.bfloat16) for _ in model.blocks]
    style = torch.randn(1, s.cond, device=device, dtype=torch.bfloat16)
    styles = torch.cat((style, torch.zeros_like(style)))

    def attends(start):
        def attend(layer):
            def body(q, k, v):
                end = start + q.shape[2]
                cache[layer][0, :, :, start:end] = k
                cache[layer][1, :, :, start:end] = v
                return F.scaled_dot_product_attention(q, cache[layer][0, :, :, :end], cache[layer][1, :, :, :end])
            return body
        return [attend(i) for i in range(s.depth)]

    text = torch.randint(1, s.tokens, (1, s.text), device=device)
    x = model.text_embed(torch.cat((text, torch.zeros_like(text))))
    model(x, torch.full((2, s.text), -1.0, device=device), styles, model.rotary(torch.arange(s.text, device=device)),
          attends(0))
    song, delta = [], 1 / (s.grid - 1)
    for block in range(blocks):
        rotary = model.rotary(torch.arange(block * s.block, (block + 1) * s.block, device=device))
        attend = attends(s.text + block * s.block)
        x = torch.randn(1, s.block, s.channels, device=device)

        def velocity(time):
            e = model.latent_embed(x.to(torch.bfloat16)).expand(2, -1, -1)
            return model(e, torch.full((2, s.block), time, device=device), styles, rotary, attend).float()

        for k in range(s.grid - 1):
            v = velocity(k * delta)
            x = x + delta * (v[:1] + (v[:1] - v[1:]) * s.guidance)
        velocity(1.0)
        song.append(x)
        each_block(block)
    return torch.cat(song, 1)
