"""Answering each record: by a model server, or from its own passages without one."""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from sage_dask.endpoint.cache import ResponseCache, default_path
from sage_dask.endpoint.usage import Usage
from sage_dask.errors import PlanError
from sage_dask.operators.connection import at_once
from sage_dask.operators.generation.asking import Asker
from sage_dask.operators.generation.extractive import ExtractiveAnswerer
from sage_dask.operators.generation.request import RequestForm, most_new_tokens, prompt_tokens
from sage_dask.operators.generation.sampling import Sampling
from sage_dask.operators.generation.schema import AnswerSchema
from sage_dask.operators.remote import Remote
from sage_dask.operators.shared import ProcessCache, ready, text_fault
from sage_dask.record import Outcome, Record

_caches: ProcessCache[ResponseCache] = ProcessCache()


@dataclass
class Generate(Sampling, Remote):
    """Write an answer for each record, and beside it how it came about.

    With an ``endpoint``, prompts go to any OpenAI-compatible server, a whole
    batch at once.  Without one, no model writes: the answer is quoted from the
    record's passages, and its ``model`` says so.
    """

    # Declared again to stand first: Generate("http://gpu-0:8000/v1", "model").
    endpoint: str | Sequence[str] | None = None
    """Base URL of the server; a list for replicas of one model; None to quote from passages."""
    model: str | None = None
    """The model's name as the server knows it; None takes that of ``parameters``."""
    prompt: str = "prompt"
    """Field that holds the prompt: a text, or a list of chat messages of any number of turns."""
    into: str = "answer"
    """Field that takes the answer, or the list of ``n`` answers where that is more than one;
    ``<into>_meta`` takes model, usage, finish reason, latency, attempts and cost."""
    api: str = "chat"
    """``"chat"``, or ``"completions"`` for servers without a chat template."""
    system: str | None = None
    """First message of each chat, as it stands; a chat that brings its own keeps that."""
    json_schema: Mapping[str, Any] | str | None = None
    """Schema, or path of one, that answers must fit; ``into`` then takes the JSON's value."""
    reasks: int = 2
    """Further requests for an answer that does not fit ``json_schema``, told what is wrong."""
    parameters: str | None = None
    """Field with a record's own request parameters, as ``ReadOpenAIBatch`` writes them; they
    win over those here, ``model`` and ``json_schema`` aside."""
    priority: int | str | None = None
    """A number, or the field that holds it; higher is served first.  For vLLM with
    ``--scheduling-policy priority``, which counts the other way round and is sent the negative."""
    stream: bool = False
    """Have answers come in pieces, so that a server that hangs is found within ``idle_s``."""
    cache: bool | str | None = None
    """Whether answers are kept on this machine and not asked for again, or the path of the
    cache.  None keeps those that would come out the same: temperature 0, or a seed."""
    question: str = "question"
    """Field that holds the question; used without an endpoint."""
    passages: str = "passages"
    """Field that holds the passages to quote from; used without an endpoint."""
    embedder: str | None = "minilm"
    """Model that compares sentences; None compares words alone.  Used without an endpoint."""
    _asker: Asker | None = field(init=False, repr=False, compare=False, default=None)
    _answerer: ExtractiveAnswerer | None = field(
        init=False, repr=False, compare=False, default=None
    )

    _not_extra: ClassVar[frozenset[str]] = frozenset(
        {"model", "messages", "prompt", "max_tokens", "temperature", "top_p", "stop", "seed", "n"}
        | {"logprobs", "top_logprobs", "priority", "stream", "stream_options", "best_of"}
    )

    @property
    def imports(self) -> Sequence[str]:
        """The embedding library, where sentences are compared by it."""
        return ("sentence_transformers",) if self.endpoint is None and self.embedder else ()

    @property
    def reads(self) -> Sequence[str]:
        """What is asked, or question and passages where answers are quoted."""
        if self.endpoint is None:
            return (self.question, self.passages)
        priority = self.priority if isinstance(self.priority, str) else None
        return tuple(name for name in (self.prompt, self.parameters, priority) if name is not None)

    @property
    def writes(self) -> Sequence[str]:
        """The answer, and how it came about."""
        beside = ("_meta", "_logprobs") if self.logprobs else ("_meta",)
        return (self.into, *(self.into + ending for ending in beside))

    @property
    def is_costly(self) -> bool:
        """A model's answers are; what is quoted from passages is not."""
        return bool(self.endpoints)

    @property
    def immaterial(self) -> tuple[str, ...]:
        """How an answer travels, waits and is kept, and how often it is asked for."""
        return (*super().immaterial, "stream", "cache", "priority", "reasks")

    def known_by(self) -> Mapping[str, object]:
        """Return the schema by what it says, wherever it is written."""
        schema = self._schema
        return {**super().known_by(), **({} if schema is None else {"json_schema": schema.root})}

    def check(self) -> None:
        """Refuse what no server could answer."""
        if self.endpoint is None and self.model is not None:
            raise PlanError(
                f"Generate: endpoint=None and model={self.model!r} go together; "
                "give both, or neither to quote answers from the passages"
            )
        if self.endpoint is not None and self.model is None and self.parameters is None:
            raise PlanError(
                f"Generate: endpoint={self.endpoint!r} and model=None go together only with "
                "parameters=..., whose field then names the model; give model=..."
            )
        super().check()
        self.check_sampling()
        self._check_form()

    def setup(self) -> None:
        """Make the client, or load what compares sentences."""
        if self.endpoint is None:
            self._answerer = ExtractiveAnswerer.load(self.embedder)
            return
        self._asker = Asker(
            self.connect(),
            self._form,
            schema=self._schema,
            reasks=self.reasks,
            stream=self.stream,
            cache=self._opened_cache(),
            cache_asked=None if self.cache is None else bool(self.cache),
            has_replicas=len(self.endpoints) > 1,
        )

    def process_batch(
        self, records: Sequence[Record]
    ) -> Sequence[Outcome] | Awaitable[Sequence[Outcome]]:
        """Answer each record; waiting for a server is a coroutine, quoting is not.

        Raises:
            StopRun: The server would refuse every other prompt as well.
        """
        if self.is_async:
            return self._ask_all(ready(self._asker, self), records)
        answerer = ready(self._answerer, self)
        return [self._quoted(answerer, record) for record in records]

    def teardown(self) -> None:
        """Close the connections; the process keeps the cache for other stages."""
        self._asker = self._answerer = None
        super().teardown()

    def preview(self, record: Record) -> Mapping[str, float] | None:
        """Return what one request for a record would take at most, without sending it.

        Returns:
            ``prompt_tokens``, estimated by characters, and, where the request
            limits its answer, ``max_completion_tokens`` and ``cost_max``; None
            where no server is asked.

        Raises:
            ValueError: The record holds nothing that could be asked.
        """
        if self.endpoint is None:
            return None
        body = self._form.body(record)
        read, written = prompt_tokens(body), most_new_tokens(body)
        if written is None:
            return {"prompt_tokens": read}
        cost = self.prices.cost(Usage(prompt_tokens=read, completion_tokens=written))
        return {"prompt_tokens": read, "max_completion_tokens": written, "cost_max": cost}

    @property
    def _schema(self) -> AnswerSchema | None:
        return None if self.json_schema is None else AnswerSchema.load(self.json_schema)

    @property
    def _form(self) -> RequestForm:
        schema = self._schema
        return RequestForm(
            api=self.api,
            model=self.model,
            prompt=self.prompt,
            system=self.system,
            fixed={**self.sampling(self.api), **self.extra},
            response_format=None if schema is None else schema.response_format,
            parameters=self.parameters,
            seed=self.seed,
            priority=self.priority,
        )

    def _check_form(self) -> None:
        if self.api not in ("chat", "completions"):
            raise PlanError(f"Generate: api={self.api!r} is neither 'chat' nor 'completions'")
        for name in ("system", "json_schema"):
            if self.api != "chat" and getattr(self, name) is not None:
                raise PlanError(
                    f"Generate: {name}= needs messages, and api={self.api!r} has none; use "
                    "api='chat', or say it in the prompt"
                )
        if self.reasks < 0:
            raise PlanError(f"Generate: reasks={self.reasks} must be 0 or more")
        if self._schema is not None and "response_format" in self.extra:
            raise PlanError(
                "Generate: json_schema is sent as response_format; leave it out of extra"
            )

    def _opened_cache(self) -> ResponseCache | None:
        if self.cache is False:
            return None
        path = self.cache if isinstance(self.cache, str) else str(default_path())
        return _caches.get(path, lambda: ResponseCache(path))

    async def _ask_all(self, asker: Asker, records: Sequence[Record]) -> Sequence[Outcome]:
        return await at_once(lambda record: self._asked(asker, record), records)

    async def _asked(self, asker: Asker, record: Record) -> Record:
        answered = await asker.ask(record)
        return answered.into(record, self.into, logprobs=bool(self.logprobs))

    def _quoted(self, answerer: ExtractiveAnswerer, record: Record) -> Outcome:
        if fault := text_fault(record, self.question, self):
            return fault
        try:
            completion = answerer.answer(record[self.question], record[self.passages])
        except Exception as error:
            return error
        return {**record, self.into: completion.text, f"{self.into}_meta": completion.meta()}

    def __getstate__(self) -> dict[str, Any]:
        """Take the schema along: its file is the declaring machine's alone."""
        schema = self._schema
        return super().__getstate__() | ({} if schema is None else {"json_schema": schema.root})
