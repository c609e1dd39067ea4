"""The demo model in PyTorch: a byte-level Llama of 853,120 parameters (RMSNorm, half-split RoPE, grouped-query attention, SwiGLU, untied
head). Used by train.py; make_h5.py maps its parameter names to the canonical ones of datasets/SCHEMA.md."""
import torch
import torch.nn as nn
import torch.nn.functional as F


class RMSNorm(nn.Module):
    def __init__(self, d):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(d))

    def forward(self, x):
        return x * torch.rsqrt(x.float().pow(2).mean(-1, keepdim=True) + 1e-5) * self.weight


def rope_tables(n_positions, head_dim, theta=10000.0):
    inv = theta ** (-torch.arange(0, head_dim, 2).float() / head_dim)
    angle = torch.arange(n_positions).float()[:, None] * inv[None]
    angle = torch.cat([angle, angle], -1)
    return angle.cos(), angle.sin()


def rotate(x, cos, sin):
    """Half-split layout: channel i is paired with i + head_dim / 2."""
    h = x.shape[-1] // 2
    return x * cos + torch.cat([-x[..., h:], x[..., :h]], -1) * sin


class Block(nn.Module):
    def __init__(self, d, n_heads, n_kv, d_ff):
        super().__init__()
        self.n_heads, self.n_kv, self.head_dim = n_heads, n_kv, d // n_heads
        linear = lambda i, o: nn.Linear(i, o, bias=False)
        self.n1, self.n2 = RMSNorm(d), RMSNorm(d)
        self.q, self.k, self.v, self.o = linear(d, d), linear(d, n_kv * self.head_dim), linear(d, n_kv * self.head_dim), linear(d, d)
        self.gate, self.up, self.down = linear(d, d_ff), linear(d, d_ff), linear(d_ff, d)

    def heads(self, x, n):
        return x.view(x.shape[0], x.shape[1], n, self.head_dim).transpose(1, 2)

    def forward(self, x, cos, sin):
        h = self.n1(x)
        q, k, v = self.heads(self.q(h), self.n_heads), self.heads(self.k(h), self.n_kv), self.heads(self.v(h), self.n_kv)
        q, k, v = rotate(q.float(), cos, sin), rotate(k.float(), cos, sin), v.float()
        group = self.n_heads // self.n_kv
        k, v = k.repeat_interleave(group, 1), v.repeat_interleave(group, 1)
        with torch.autocast("cpu", enabled=False):
            y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.o(y.transpose(1, 2).reshape(x.shape))
        h = self.n2(x)
        return x + self.down(F.silu(self.gate(h)) * self.up(h))


class Llama(nn.Module):
    def __init__(self, d=128, d_ff=384, n_blocks=4, n_heads=8, n_kv=4, vocab=256, context=256):
        super().__init__()
        self.emb = nn.Embedding(vocab, d)
        self.blocks = nn.ModuleList(Block(d, n_heads, n_kv, d_ff) for _ in range(n_blocks))
        self.nf, self.head = RMSNorm(d), nn.Linear(d, vocab, bias=False)
        cos, sin = rope_tables(context, d // n_heads)
        self.register_buffer("cos", cos, False)
        self.register_buffer("sin", sin, False)
        for name, p in self.named_parameters():
            if p.dim() == 2:
                nn.init.normal_(p, std=self.initial_std(name, p.shape[1]))

    @staticmethod
    def initial_std(name, d_in):
        if "emb" in name:
            return 0.7
        if "head" in name:
            return 0.03
        return d_in ** -0.5 * (0.35 if name.endswith(("o.weight", "down.weight")) else 1)

    def forward(self, ids):
        x, n = self.emb(ids), ids.shape[1]
        for block in self.blocks:
            x = block(x, self.cos[:n], self.sin[:n])
        return self.head(self.nf(x))
