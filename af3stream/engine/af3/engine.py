"""The AF3 engine: one loaded checkpoint behind the contract, and a batch face on strings and arrays."""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from threading import Lock

import torch

from af3stream.engine.af3.alignment import expand
from af3stream.engine.af3.checkpoint import LoadedCheckpoint
from af3stream.engine.af3.context import Answer, PrefixContext
from af3stream.engine.af3.decode import Decoder
from af3stream.engine.af3.encoder import Encoder
from af3stream.engine.af3.prompt import TRANSCRIBE, encode_text, read_template, strip_framing
from af3stream.engine.af3.prompt_embedder import PromptEmbedder
from af3stream.engine.contract import (
    Answering,
    AudioSegment,
    Capacity,
    Captioner,
    Counters,
    Hypothesis,
    Samples,
    Turn,
    VoiceEncoder,
)
from af3stream.errors import ContextFull
from af3stream.models.card import PLAIN, Wording

REPLY_POSITIONS = 512  # kept free for a question and its answer beyond the horizon


class Af3Engine:
    """Implements `af3stream.engine.contract.Engine`.

    Args:
        loaded: the checkpoint.
        name: what users call it.
        captioner: another captioner than the checkpoint itself, or ``None``.
        keep_on_host: keep projected windows in host memory rather than on the model's device.
        encode_together: windows in one encoder pass.
        wording: what stands around the questions of contexts; captions and `generate` have the chat template alone.
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
        self._turn_overhead = self._asking.positions((), "", [Turn("", "")]) - self._asking.positions(())
        self._counting = Lock()
        self._counting_tokenizer = deepcopy(loaded.processor.tokenizer)  # a tokenizer is one thread's at a time
        self.captioner: Captioner = captioner or Af3Captioner(self)
        self.voices: VoiceEncoder | None = None
        self.capacity = self._capacity()
        self.frame_bytes = self._decoder.hidden_size * loaded.model.dtype.itemsize

    def _capacity(self) -> Capacity:
        alignment = self._loaded.alignment
        room = self._loaded.positions - max(self._fusion.overhead, self._asking.overhead)
        window = alignment.frames(alignment.window_samples)
        fitting = (room - min(REPLY_POSITIONS, room // 4)) // window
        return Capacity(alignment.window_samples, max(1, min(alignment.max_windows, fitting)), room)

    def frames(self, samples: int) -> int:
        """Projected frames K of a window of so many samples."""
        return self._loaded.alignment.frames(samples)

    def count(self, text: str) -> int:
        """Positions that a text takes; callable from any thread."""
        with self._counting:
            return len(encode_text(self._counting_tokenizer, text))

    def count_turn(self, turn: Turn) -> int:
        """Positions that an earlier turn of the chat takes; callable from any thread."""
        return self._turn_overhead + self.count(turn.question) + self.count(turn.answer)

    def encode(self, sounds: Sequence[AudioSegment]) -> None:
        """Encode the sounds that are not encoded yet, several in a pass; their samples are given up."""
        waiting = [sound for sound in sounds if sound.embeddings is None]
        for start in range(0, len(waiting), self.encode_together):
            group = waiting[start : start + self.encode_together]
            for sound, embeddings in zip(group, self._encode([s.samples for s in group]), strict=True):
                sound.embeddings = embeddings.cpu() if self._keep_on_host else embeddings
                sound.samples = None
        self.counters.sounds_encoded += len(waiting)

    def _encode(self, windows: Sequence[Samples | None]) -> list[torch.Tensor]:
        samples = [window for window in windows if window is not None]
        encoded = self._encoder.encode(samples)
        self.counters.encoder_passes = self._encoder.passes
        return encoded

    def context(self) -> PrefixContext:
        """A new, empty context, whose slot holds all the language model can read."""
        return PrefixContext(self._asking, self._decoder, self._loaded.positions, self.counters)

    def is_decoding(self, answer: Answering) -> bool:
        """Whether it has a reply to go on with."""
        return isinstance(answer, Answer) and answer.reply is not None

    def decode_batch(self, answers: Sequence[Answering]) -> None:
        """Read the last token of each of these answers in one pass; see the contract."""
        replies = [answer.reply for answer in answers if isinstance(answer, Answer)]
        waiting = [reply for reply in replies if reply and reply.last is not None]
        if len(waiting) > 1:
            self._decoder.advance(waiting)

    def hear(self, samples: Samples, prompt: str, draft: Sequence[int], max_tokens: int) -> list[int]:
        """Reply to a prompt over one piece of audio, verifying a draft of the reply; a context of its own.

        Returns:
            The reply's token ids, without an end token: those that greedy decoding from nothing gives.
        """
        (frames,) = self._encode([samples])
        body = torch.cat([self._fusion.head(), frames, self._fusion.question(prompt)])
        slot = self._decoder.new_slot(len(body) + max_tokens)
        return self._decoder.drafted(slot, body, draft, max_tokens)

    def text(self, tokens: Sequence[int]) -> str:
        """The assistant's words behind reply tokens, without framing."""
        return strip_framing(self._fusion.tokenizer.decode(list(tokens), skip_special_tokens=True))

    def generate(self, texts: Sequence[str], audios: Sequence[Samples], *, max_tokens: int = 192) -> list[str]:
        """Greedy replies to a batch, as `AudioFlamingo3ForConditionalGeneration.generate` gives them.

        Args:
            texts: what the user says, around which the chat template is put. Without `<sound>` the audio stands before
                the text; with it, each `<sound>` stands for one window.
            audios: float32 (n,) at 16 kHz, one a text, cut into stock windows.

        Returns:
            One reply a prompt, trimmed to the assistant's words.

        Raises:
            PlaceholderMismatch: where a text's placeholders differ from its windows in number.
            TooManyWindows: where an audio is longer than one prompt may hold.
            ContextFull: where a prompt and its reply do not fit the language model.
        """
        if len(texts) != len(audios):
            raise ValueError(f"got {len(texts)} texts but {len(audios)} audios; they must match 1:1")
        split = [self._loaded.alignment.split(audio) for audio in audios]
        counts = [[self.frames(len(window)) for window in windows] for windows in split]
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
    """The checkpoint itself as captioner: asks for a transcription, and verifies the last one as a draft."""

    name = "af3"
    revises = False

    def __init__(self, engine: Af3Engine) -> None:
        self._engine = engine

    def caption(self, samples: Samples, draft: Hypothesis | None, *, final: bool, max_tokens: int) -> Hypothesis:
        """Transcribe (n,) at 16 kHz; the draft makes it sooner, never different."""
        self._engine.counters.caption_encodes += 1
        tokens = self._engine.hear(samples, TRANSCRIBE, draft.tokens if draft else (), max_tokens)
        return Hypothesis(self._engine.text(tokens), tuple(tokens))
