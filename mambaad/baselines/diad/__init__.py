"""DiAD: a defect-free image is drawn anew by latent diffusion, guided by the image itself (He et al., AAAI 2024)::

    blocks       residual block, attention, transformer, changes of size
    autoencoder  image to latent and back (Kingma and Welling; Rombach et al., CVPR 2022)
    denoiser     the U-Net that tells the noise in a latent
    guide        semantic-guided network: a second encoder half that sees the image, with spatial feature fusion
    diffusion    noise schedule and DDIM sampling (Song et al., ICLR 2021)
    method       the method: two phases of training, prediction
    text         the constant context of the empty prompt (CLIP)
    weights      published Stable Diffusion weights from a file

Modules of autoencoder, denoiser and guide carry the names of Stable Diffusion's tensors, so that its weights fit as
they are.  Axes: B batch, S image side in pixels, h latent side, L tokens (h * h), C channels, E time embedding,
T context tokens, D context width.
"""

from mambaad.baselines.diad.method import DiAD

__all__ = ["DiAD"]
