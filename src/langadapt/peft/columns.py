"""A linear layer of which some input columns are frozen and the others learn; apart because it needs torch at once."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.functional import linear


class ShieldedLinear(nn.Module):
    """Computes what the layer that it takes the place of does.

    Args:
        layer: of shape (outputs, inputs).
        frozen: numbers of the input columns that are frozen.

    Attributes:
        weight: the columns that learn, (outputs, inputs that learn), in fp32.
        frozen: the others, in the layer's own type; a buffer, so it goes into checkpoints and to no optimizer.
        order: where each input's column is among the frozen ones followed by those that learn.
    """

    def __init__(self, layer: nn.Linear, frozen: Tensor):
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        matrix, learns = layer.weight.detach(), torch.ones(layer.in_features, dtype=torch.bool, device=frozen.device)
        learns[frozen] = False
        learning = learns.nonzero().squeeze(1)
        self.weight = nn.Parameter(matrix[:, learning].float())
        self.bias = layer.bias
        self.frozen: Tensor
        self.order: Tensor
        self.register_buffer("frozen", matrix[:, frozen].clone())
        self.register_buffer("order", torch.cat([frozen, learning]).argsort())

    def forward(self, inputs: Tensor) -> Tensor:
        return linear(inputs, self.matrix(self.frozen.dtype), self.bias)

    def matrix(self, dtype: torch.dtype) -> Tensor:
        """All columns in the order of the inputs, (outputs, inputs)."""
        return torch.cat([self.frozen.to(dtype), self.weight.to(dtype)], dim=1).index_select(1, self.order)

    def plain(self) -> nn.Linear:
        """An ordinary layer with the same weights, in fp32."""
        outputs, inputs = len(self.weight), len(self.order)
        layer = nn.Linear(inputs, outputs, bias=self.bias is not None, device="meta")
        layer.weight = nn.Parameter(self.matrix(torch.float32).detach())
        layer.bias = self.bias
        return layer
