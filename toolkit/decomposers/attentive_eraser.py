"""Attentive Eraser (Sun et al. 2025, arXiv 2412.12974): attention that looks away from the object.

In every self-attention of the upsampling half no pixel may attend to the object. In the first ten steps the object's
own pixels also see weaker similarities (the paper's similarity suppression), so that none of its shape returns. Both
happen only in the second half of the batch; the difference to the first half is amplified as a guidance.
"""

from typing import Any

import cv2
import numpy as np

from ..decomposition import U8

# As released for SDXL: a blurred mask counts from a tenth on, which grows it by some fifteen pixels of 1024.
_BLUR, _COUNTS_FROM = 77, 0.1
_SUPPRESSED_STEPS, _SUPPRESSION = 10, 0.3


def blurred_over(hole: U8) -> U8:
    """Grow an (H, W) mask of 0 and 1 to where its Gaussian blur reaches a tenth."""
    blurred = cv2.GaussianBlur(hole.astype(np.float32), (_BLUR, _BLUR), 0)
    return (blurred >= _COUNTS_FROM).astype(np.uint8)


def redirect_attention(unet: Any, hole: U8) -> None:
    """Give every self-attention of the upsampling half a new processor, for one run over one (H, W) mask."""
    processors = dict(unet.attn_processors)
    for name in processors:
        if name.startswith("up_blocks.") and name.endswith(".attn1.processor"):
            processors[name] = RedirectedAttention(hole)
    unet.set_attn_processor(processors)


class RedirectedAttention:
    """A self-attention processor of diffusers; counts its calls as steps.

    Args:
        hole: (H, W) of 0 and 1, at the picture's size.
    """

    def __init__(self, hole: U8) -> None:
        self._hole, self._step = hole, 0

    def __call__(self, attn: Any, hidden_states: Any, *unused: Any, **also_unused: Any) -> Any:
        """Attend; (2 N, tokens, channels), of which the second N are redirected."""
        import torch

        count, tokens, _ = hidden_states.shape
        query, key, value = (
            project(hidden_states).view(count, tokens, attn.heads, -1).transpose(1, 2)
            for project in (attn.to_q, attn.to_k, attn.to_v)
        )
        on_object = self._tokens_on_object(tokens).to(hidden_states.device)
        redirected = torch.arange(count, device=hidden_states.device) >= count // 2
        if self._step < _SUPPRESSED_STEPS:
            factor = torch.where(redirected[:, None] & on_object, _SUPPRESSION, 1.0)
            query = query * factor[:, None, :, None].to(query.dtype)
        self._step += 1
        # Where the object is everything, there is nothing to look at instead.
        hidden = redirected[:, None] & on_object & ~on_object.all()
        attended = torch.nn.functional.scaled_dot_product_attention(
            query, key, value, attn_mask=~hidden[:, None, None, :], scale=attn.scale
        )
        return attn.to_out[0](attended.transpose(1, 2).reshape(count, tokens, -1))

    def _tokens_on_object(self, tokens: int) -> Any:
        """Which tokens hold any of the object: (tokens,) bool."""
        import torch

        height, width = self._hole.shape
        shrink = round((height * width / tokens) ** 0.5)
        hole = torch.from_numpy(self._hole)[None].float()
        return torch.nn.functional.max_pool2d(hole, shrink).flatten() > 0
