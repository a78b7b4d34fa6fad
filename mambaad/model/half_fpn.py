"""The Half-FPN bottleneck: fuses the encoder's three scales into the decoder's input.  Paper: section 3.1.

Axes: B batch; c1, c2, c3 encoder channels at strides 4, 8, 16.
"""

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F


def conv_bn(c_in: int, c_out: int, kernel: int = 1, stride: int = 1, bias: bool = False) -> nn.Sequential:
    """Convolution (padded to keep the size at stride 1) and BatchNorm."""
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding=kernel // 2, bias=bias)
    return nn.Sequential(conv, nn.BatchNorm2d(c_out))


class Bottleneck(nn.Module):
    """ResNet bottleneck with expansion 4; its stride sits in the 3x3 convolution."""

    def __init__(self, c_in: int, inner: int, stride: int = 1) -> None:
        super().__init__()
        c_out = 4 * inner
        self.conv1 = conv_bn(c_in, inner)
        self.conv2 = conv_bn(inner, inner, 3, stride)
        self.conv3 = conv_bn(inner, c_out)
        self.shortcut = nn.Identity() if stride == 1 and c_in == c_out else conv_bn(c_in, c_out, 1, stride)

    def forward(self, x: Float[Tensor, "B c_in h w"]) -> Float[Tensor, "B c_out h2 w2"]:
        y = self.conv3(F.relu(self.conv2(F.relu(self.conv1(x)))))
        return F.relu(y + self.shortcut(x))


class HalfFPN(nn.Module):
    """Bottom-up fusion of strides 4, 8 and 16, then three bottlenecks down to stride 32.

    The output has 2 * c3 channels.  Raises ValueError if c3 is odd: the bottlenecks are c3 / 2 wide inside.
    """

    def __init__(self, channels: Sequence[int]) -> None:
        super().__init__()
        c1, c2, c3 = channels
        if c3 % 2:
            raise ValueError(f"the encoder's stride 16 features must have an even number of channels, got {c3}")
        self.down_8 = conv_bn(c1, c2, 3, stride=2)
        self.lateral_8 = conv_bn(c2, c2, bias=True)
        self.down_16 = conv_bn(c2, c3, 3, stride=2)
        self.lateral_16 = conv_bn(c3, c3, bias=True)
        self.fuse = conv_bn(c3, c3, bias=True)
        self.bottlenecks = nn.Sequential(
            Bottleneck(c3, c3 // 2, stride=2), Bottleneck(2 * c3, c3 // 2), Bottleneck(2 * c3, c3 // 2)
        )

    def forward(self, features: Sequence[Tensor]) -> Float[Tensor, "B c h w"]:
        x1, x2, x3 = features
        y1 = F.relu(self.down_8(x1))
        y2 = F.relu(self.lateral_8(x2)) + y1
        y3 = F.relu(self.down_16(y2)) + F.relu(self.lateral_16(x3))
        return self.bottlenecks(F.relu(self.fuse(y3)))
