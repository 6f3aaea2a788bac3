"""The AF3 engine: one loaded checkpoint behind the contract, and `generate` over a batch of prompts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import torch

from af3stream.engine.af3.alignment import expand
from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.context import Answer, PrefixContext
from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.encoder import Encoder
from af3stream.engine.af3.prompt import TRANSCRIBE, encode_text, read_template, strip_framing
from af3stream.engine.af3.prompt_embedder import PromptEmbedder
from af3stream.engine.af3.sound_namer import Af3SoundNamer
from af3stream.engine.af3.vocabulary import TermTree
from af3stream.engine.captioning import (
    Captioner,
    CaptionRequest,
    Hypothesis,
    Samples,
    SoundNamer,
    VoiceEncoder,
)
from af3stream.engine.contract import Answering, Capacity, Embeddings, Lookup, TokenCounter, Turn
from af3stream.engine.counters import Counters
from af3stream.engine.token_counter import TokenizerCounter
from af3stream.errors import ContextFull
from af3stream.models.card import PLAIN, Wording

REPLY_POSITIONS = 512  # positions that the windows leave free for a question and its answer


class Af3Engine:
    """Implements `af3stream.engine.contract.Engine`.

    Args:
        loaded: the checkpoint.
        name: what users call it.
        captioner: another captioner than the checkpoint itself, or ``None``.
        keep_on_host: keep embeddings in host memory rather than on the model's device.
        encode_together: windows in one encoder pass.
        wording: what stands around the questions of contexts; captions and `generate` use the chat template alone.
        sure: the least confidence with which a sound may be named; ``None``: no sounds are named.
    """

    def __init__(
        self,
        loaded: LoadedCheckpoint,
        name: str,
        captioner: Captioner | None = None,
        *,
        keep_on_host: bool = False,
        encode_together: int = 1,
        wording: Wording = PLAIN,
        sure: float | None = None,
    ) -> None:
        self.name = name
        self.counters = Counters()
        self._loaded = loaded
        self._keep_on_host = keep_on_host
        self.encode_together = encode_together
        self._encoder = Encoder(loaded.model, loaded.processor.feature_extractor, loaded.alignment)
        self._decoder = Decoder(
            loaded.model, loaded.stop, self.counters, loaded.prefill_chunk, compiled=loaded.compiled
        )
        tokenizer = loaded.processor.tokenizer
        self._fusion = PromptEmbedder(read_template(loaded.processor), tokenizer, self._decoder)
        asking = read_template(loaded.processor, wording.system)
        self._asking = PromptEmbedder(asking, tokenizer, self._decoder, wording.instruction or "")
        turn = self._asking.positions((), "", [Turn("", "")]) - self._asking.positions(())
        self.tokens: TokenCounter = TokenizerCounter.of(tokenizer, loaded.alignment, turn)
        self._terms = lru_cache(maxsize=8)(self._term_tree)
        self.captioner: Captioner = captioner or Af3Captioner(self)
        self.sounds: SoundNamer | None = None if sure is None else Af3SoundNamer(self._asking, self._decoder, sure)
        self.voices: VoiceEncoder | None = None
        self.capacity = self._capacity()
        self.frame_bytes = self._decoder.hidden_size * loaded.model.dtype.itemsize

    def _capacity(self) -> Capacity:
        alignment = self._loaded.alignment
        room = self._loaded.positions - max(self._fusion.overhead, self._asking.overhead)
        window = alignment.frames(alignment.window_samples)
        fitting = (room - min(REPLY_POSITIONS, room // 4)) // window
        return Capacity(alignment.window_samples, max(1, min(alignment.max_windows, fitting)), room)

    def encode(self, windows: Sequence[Samples]) -> list[Embeddings]:
        """Encode windows, float32 (n_i,) each, ``encode_together`` in a pass.

        Returns:
            For each window a tensor (K_i, hidden) in the model's dtype, on its device or in host memory.
        """
        encoded: list[Embeddings] = []
        for start in range(0, len(windows), self.encode_together):
            group = self._encode(windows[start : start + self.encode_together])
            encoded += [embeddings.cpu() if self._keep_on_host else embeddings for embeddings in group]
        self.counters.sounds_encoded += len(windows)
        return encoded

    def _encode(self, windows: Sequence[Samples]) -> list[torch.Tensor]:
        encoded = self._encoder.encode(windows)
        self.counters.encoder_passes = self._encoder.passes
        return encoded

    def context(self, embeddings: Lookup) -> PrefixContext:
        """Return a new, empty context, whose slot has room for all positions of the language model."""
        return PrefixContext(self._asking, self._decoder, self._loaded.positions, self.counters, embeddings)

    def is_decoding(self, answer: Answering) -> bool:
        """Return whether the question is read, so that the next step writes a token."""
        return isinstance(answer, Answer) and answer.reply is not None

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Read the last token of each of these answers in one pass; see the contract."""
        replies = [answer.reply for answer in answers if isinstance(answer, Answer)]
        waiting = [reply for reply in replies if reply and reply.last is not None]
        if len(waiting) > 1:
            self._decoder.advance(waiting)

    def transcribe(self, request: CaptionRequest) -> Iterator[list[int] | None]:
        """Ask for a transcription of an utterance, in a slot of its own; a draft is verified. Yields after a pass.

        Args:
            request: of its options, only the vocabulary is used: its terms are made likelier.

        Yields:
            ``None`` while it works, then the reply's token ids, without an end token. Without a vocabulary they are
            those of greedy decoding, whatever the draft.
        """
        (frames,) = self._encode([request.samples])
        yield None
        body = torch.cat([self._fusion.head(), frames, self._fusion.question(TRANSCRIBE)])
        slot = self._decoder.new_slot(len(body) + request.max_tokens)
        draft, terms = request.draft.tokens if request.draft else (), self._terms(request.options.vocabulary)
        yield from self._decoder.drafted(slot, body, draft, request.max_tokens, terms)

    def transcription_bytes(self, request: CaptionRequest) -> int:
        """Return the bytes of keys and values of `transcribe`."""
        frames = self.tokens.frames(len(request.samples))
        positions = self._fusion.positions((), TRANSCRIBE) + frames + request.max_tokens
        return positions * self._decoder.position_bytes

    def _term_tree(self, vocabulary: tuple[str, ...]) -> TermTree | None:
        """Terms as they are spelled at the beginning of a reply and within one; ``None`` if there are none."""
        spelled = [encode_text(self._fusion.tokenizer, before + term) for term in vocabulary for before in ("", " ")]
        return TermTree(spelled) if spelled else None

    def text(self, tokens: Sequence[int]) -> str:
        """Return the assistant's words behind reply tokens, without framing."""
        return strip_framing(self._fusion.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def generate(self, texts: Sequence[str], audios: Sequence[Samples], *, max_tokens: int = 192) -> list[str]:
        """Return greedy replies to a batch, those of `AudioFlamingo3ForConditionalGeneration.generate`.

        Args:
            texts: the user's words; the chat template is put around them. Without `<sound>` the audio stands before
                the text; with it, each `<sound>` stands for one window.
            audios: float32 (n,) at 16 kHz, one a text, cut into windows of the longest length.

        Returns:
            One reply a prompt, trimmed to the assistant's words.

        Raises:
            ValueError: if texts and audios differ in number.
            PlaceholderMismatch: if a text's placeholders differ from its windows in number.
            TooManyWindows: if an audio is longer than one prompt may hold.
            ContextFull: if a prompt and its reply do not fit the language model.
        """
        if len(texts) != len(audios):
            raise ValueError(f"got {len(texts)} texts but {len(audios)} audios; they must match 1:1")
        split = [self._loaded.alignment.split(audio) for audio in audios]
        counts = [[self.tokens.frames(len(window)) for window in windows] for windows in split]
        token = self._loaded.processor.audio_token
        prompts = [expand(text, token, ks, i) for i, (text, ks) in enumerate(zip(texts, counts, strict=True))]
        rows = [self._fusion.prompt(prompt, token, self._loaded.model.config.audio_token_id) for prompt in prompts]
        longest = max((len(row) for row in rows), default=0) + max_tokens
        if longest > self._loaded.positions:
            raise ContextFull(longest, self._loaded.positions)
        frames = [torch.cat(self._encode(windows)) for windows in split]
        replies = self._decoder.greedy_batch(rows, frames, self._loaded.model.config.audio_token_id, max_tokens)
        return [self.text(reply) for reply in replies]


class Af3Captioner:
    """The checkpoint as captioner: it is asked for a transcription, and the last one is verified as a draft."""

    name = "af3"
    revises = False
    times_words = False
    languages: tuple[str, ...] = ()
    translates = False

    def __init__(self, engine: Af3Engine) -> None:
        self._engine = engine

    def caption(self, request: CaptionRequest) -> Iterator[Hypothesis | None]:
        """Transcribe an utterance; see `Af3Engine.transcribe`. Of the options, only the vocabulary is used."""
        self._engine.counters.caption_encodes += 1
        for tokens in self._engine.transcribe(request):
            yield None if tokens is None else Hypothesis(self._engine.text(tokens), tuple(tokens))

    def kv_bytes(self, request: CaptionRequest) -> int:
        """Return the bytes of the slot of its own that a caption is made in."""
        return self._engine.transcription_bytes(request)
