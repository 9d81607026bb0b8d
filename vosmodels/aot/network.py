"""Segment all objects of a clip in one pass, as AOT and DeAOT do.

Objects take identities from a bank of embeddings, so one pass serves as many as the bank has.
`propagator.py` runs the network on videos. h, w = (H - 1)/16 + 1, (W - 1)/16 + 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from vosmodels.aot.attention import to_map, to_tokens
from vosmodels.aot.beginnings import read_identities
from vosmodels.aot.configs import AOTConfig, DeAOTConfig, watchable
from vosmodels.aot.decoder import FPNDecoder, resized
from vosmodels.aot.encoder import AOTEncoder, DilatedMobileNetV2, Encoded, ResNet50
from vosmodels.aot.propagation import (
    GPM,
    LSTT,
    LayerMemory,
    Propagated,
    Propagation,
    Unfused,
    Watch,
)
from vosmodels.aot.propagator import AOTPropagator
from vosmodels.backbones import IMAGENET_MEAN, IMAGENET_STD
from vosmodels.model import ParameterKind, VideoModel
from vosmodels.types import IGNORED, REFERENCE_LOGITS, Clip, StepOutput

STRIDE = 16
PATCH = 17  # kernel of the identity bank
ABSENT = -1e10  # logit of an identity that no object has
UNDECAYED = ("relative_emb_v", "mask_token")  # tables of positions and places


class AOTNetwork(VideoModel):
    """A network of encoder, identity bank, propagation and decoder.

    config: options that a checkpoint stores to rebuild the model; name: the model's registry name.
    """

    mean: Tensor
    std: Tensor
    config: AOTConfig | DeAOTConfig

    def __init__(self, config: AOTConfig | DeAOTConfig) -> None:
        super().__init__()
        self.config = config
        self.name = type(self).__name__
        self.memory = config.rule
        self.encoder: AOTEncoder = (
            DilatedMobileNetV2() if config.backbone == "mobilenet_v2" else ResNet50()
        )
        self.encoder_projector = nn.Conv2d(self.encoder.top_channels, config.width, 1)
        nn.init.xavier_uniform_(self.encoder_projector.weight)
        deaot = isinstance(config, DeAOTConfig)
        self.LSTT: Propagation = GPM(config) if isinstance(config, DeAOTConfig) else LSTT(config)
        maps = self.LSTT.out_channels + (0 if deaot else config.width)
        self.decoder = FPNDecoder(maps, config.objects + 1, self.encoder.channels)
        self.patch_wise_id_bank = nn.Conv2d(
            config.objects + 1, config.width, PATCH, stride=STRIDE, padding=PATCH // 2
        )
        nn.init.orthogonal_(self.patch_wise_id_bank.weight.view(config.width, -1), PATCH**-2)
        if config.start == "identities":
            read_identities(self.LSTT, self.decoder, self.patch_wise_id_bank)
        self.id_norm = nn.LayerNorm(config.width) if deaot else None
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD).view(3, 1, 1), persistent=False)

    @property
    def dtype(self) -> torch.dtype:
        """Return the type of the weights."""
        return self.encoder_projector.weight.dtype

    @property
    def z_channels(self) -> int:
        """Return the number of channels of z, which all objects share."""
        return self.decoder.conv_out.in_channels

    @property
    def skips_parameters(self) -> bool:
        """Return True for AOT, whose mask token nothing reads, and where the bank is frozen."""
        return isinstance(self.config, AOTConfig) or self.config.freeze_bank

    @property
    def watchable(self) -> tuple[str, ...]:
        """Return the names of intermediates that `forward` returns on request."""
        return watchable(self.config)

    def parameter_kinds(self) -> Mapping[str, ParameterKind]:
        """Name the encoder's parameters, and matrices that are not decayed, as in AOT's code."""
        kinds: dict[str, ParameterKind] = {}
        for name, _ in self.named_parameters():
            if name.startswith("encoder."):
                kinds[name] = "encoder"
            elif name.startswith("decoder.conv_out.") or name.endswith(UNDECAYED):
                kinds[name] = "undecayed"
        return kinds

    def encode(self, frames: Tensor) -> Encoded:
        """Encode frames (B, 3, H, W) in [0, 1], sides 16 k + 1."""
        normalised = torch.addcmul(-self.mean / self.std, frames, 1 / self.std).to(self.dtype)
        features = self.encoder(normalised)
        return Encoded(features, self.encoder_projector(features.top))

    def embed(self, masks: Tensor) -> Tensor:
        """Embed identities: one-hot masks (B, 1 + ids, H, W) -> tokens (B, hw, C)."""
        tokens = to_tokens(self.patch_wise_id_bank(masks.to(self.dtype)))
        return tokens if self.id_norm is None else self.id_norm(tokens)

    def propagate(
        self,
        encoded: Encoded,
        long: Sequence[LayerMemory] | None = None,
        short: Sequence[LayerMemory] | None = None,
        *,
        embedding: Tensor | None = None,
        watch: Watch | None = None,
    ) -> Propagated:
        """Segment a frame from its memories, or with `embedding` as a reference from itself."""
        tokens, frames = self.LSTT(
            to_tokens(encoded.projected), long, short, embedding, encoded.size, watch or Watch()
        )
        maps = [to_map(x, encoded.size) for x in tokens]
        if isinstance(self.config, AOTConfig):
            maps = [encoded.projected, *maps]
        logits, z = self.decoder(maps, encoded.features)
        return Propagated(logits, z, frames)

    def remember(self, frames: Sequence[Unfused], embedding: Tensor) -> tuple[LayerMemory, ...]:
        """Fuse what each layer met of a frame with its identities' embedding (B, hw, C)."""
        return self.LSTT.remember(frames, embedding)

    def identities(self, ids: Tensor, places: Tensor) -> Tensor:
        """Convert ids (B, H, W) to one-hot masks (B, 1 + ids, H, W), object n at places[b, n].

        places (B, 1 + N): the bank's identity of each slot, 0 of the background.
        """
        taken = places.gather(1, ids.flatten(1)).view_as(ids)
        bank = torch.arange(self.config.objects + 1, device=ids.device)
        return taken.unsqueeze(1) == bank[:, None, None]

    def forward(self, clip: Clip, *, watch: Collection[str] = ()) -> StepOutput:
        """Segment the later frames of a clip, whose first frame has its mask given.

        Frame t reads the memory of frame 0, of every `train_mem_every`-th frame and of frame t - 1,
        with the ids that were predicted there. Raises ValueError unless H and W are 16 k + 1, T is
        at least 2 and the slots are at most the bank's.
        """
        return self.roll(clip, given_masks=False, watch=watch)

    def roll(self, clip: Clip, *, given_masks: bool, watch: Collection[str] = ()) -> StepOutput:
        """Segment a clip as `forward` does, with predicted or given ids in the memory.

        given_masks: the clip's ids, and where it has none the predicted ones. watch: names out of
        `watchable`, returned in `StepOutput.named`.
        """
        b, t, _, h, w = clip.frames.shape
        slots = clip.present.shape[1]
        self._check(t, h, w, slots, watch)
        keys = self.encode(clip.frames.flatten(0, 1))
        places = self._places(clip)
        absent = torch.zeros_like(places, dtype=torch.bool)
        absent[:, 1:] = ~clip.present

        def logits_of(result: Propagated) -> Tensor:
            chosen = result.logits.gather(
                1, places[:, :, None, None].expand(-1, -1, *result.logits.shape[2:])
            )
            full = resized(chosen, (h, w)).float()
            return full.masked_fill(absent[:, :, None, None], ABSENT)

        frozen = self.training and self.config.freeze_bank and not given_masks

        def embedding_of(ids: Tensor) -> Tensor:
            embedding = self.embed(self.identities(ids, places))
            return embedding.detach() if frozen else embedding

        embedding = embedding_of(clip.masks[:, 0])
        first = self.propagate(keys.frame(b, 0), embedding=embedding)
        long = short = self.remember(first.frames, embedding)
        age, gap = 0, self.config.train_mem_every
        logits: list[Tensor] = []
        z: list[Tensor] = []
        watches: list[Watch] = []
        for i in range(1, t):
            watches.append(Watch(watch))
            result = self.propagate(keys.frame(b, i), long, short, watch=watches[-1])
            logits.append(logits_of(result))
            z.append(result.z)
            if i == t - 1:
                break
            ids = logits[-1].argmax(1)
            if given_masks:
                known = clip.masks[:, i]
                ids = torch.where(known == IGNORED, ids, known)
            short = self.remember(result.frames, embedding_of(ids))
            age += 1
            if gap is not None and age >= gap:
                long, age = tuple(m.then(n) for m, n in zip(long, short, strict=True)), 0
        named = {
            name: torch.stack([seen.tensors[name] for seen in watches], 1)
            for name in watch
            if name != REFERENCE_LOGITS
        }
        if REFERENCE_LOGITS in watch:
            named[REFERENCE_LOGITS] = logits_of(first).unsqueeze(1)
        shared = torch.stack(z, 1).unsqueeze(2).expand(-1, -1, slots, -1, -1, -1)  # not copied
        return StepOutput(torch.stack(logits, 1), shared, named)

    def _check(self, t: int, h: int, w: int, slots: int, watch: Collection[str]) -> None:
        if t < 2 or h % STRIDE != 1 or w % STRIDE != 1:
            raise ValueError(
                f"a clip of {t} frames of {h}x{w}: a clip needs at least 2 frames, and sides "
                f"that are multiples of {STRIDE} and one more"
            )
        if slots > self.config.objects:
            raise ValueError(
                f"a clip of {slots} objects: {self.name} trains {self.config.objects} at once; "
                "lower data.max_objects"
            )
        self.check_watched(watch)

    def _places(self, clip: Clip) -> Tensor:
        """Choose the bank's identity of each slot, (B, 1 + N): 0, then 1..N or random ones."""
        b, slots = clip.present.shape
        shuffled = self.training and self.config.shuffle_ids
        rows = [
            torch.randperm(self.config.objects)[:slots] if shuffled else torch.arange(slots)
            for _ in range(b)
        ]
        places = torch.stack(rows) + 1
        return nn.functional.pad(places, (1, 0)).to(clip.masks.device)

    def propagator(self, *args: Any, **options: Any) -> AOTPropagator:
        """Return a propagator, which runs the model on one video.

        options: memory, a MemoryRule; mem_every, every so many frames one stays in the long-term
        memory, "never" for none but reference frames; queue, the most frames there, "all" for no
        end. Left out or None, they are those of the rule, and the rule is the model's own. Raises
        ValueError on an option out of range.
        """
        return AOTPropagator.of(self, *args, **options)
