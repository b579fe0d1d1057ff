"""What a study writes for programs: one JSON document, its types, its published schema, errors that name the place."""

from __future__ import annotations

import json
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import BaseModel, ConfigDict, ValidationError

from koinon.config import write_atomically
from koinon.errors import EvaluationError

__all__ = ["Document", "Record"]


class Record(BaseModel):
    """A part of a document: frozen, without unknown keys, every number finite."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Document(Record):
    """The whole of it."""

    title: ClassVar[str]
    """Of the schema."""
    unreadable: ClassVar[tuple[str, str]]
    """Code and remedy where there is no such file."""
    malformed: ClassVar[tuple[str, str]]
    """Code where it does not follow the schema, and what the schema is of."""
    published: ClassVar[tuple[str, str]]
    """Package and file of the shipped schema."""

    def write(self, path: Path) -> None:
        """Write the document, whole or not at all.

        Raises
        ------
        ResourceError
            K801 the disk is full or the folder cannot be written.
        """
        write_atomically(path, self.model_dump_json(indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read and validate a document.

        Raises
        ------
        EvaluationError
            ``unreadable``; ``malformed`` (names the place).
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            code, remedy = cls.unreadable
            raise EvaluationError(code, f"Cannot read {path}: {error}.", remedy) from error
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"]) or "the document"
            code, of = cls.malformed
            raise EvaluationError(
                code,
                f"{path} does not follow the schema of {of}: {place}: {first['msg']}.",
                "It may come from another version of Koinon; run the study again.",
            ) from error

    @classmethod
    def schema_text(cls) -> str:
        """The JSON Schema as the types say it now; the shipped file must equal it."""
        generated = cls.model_json_schema(mode="serialization")
        generated["$schema"] = "https://json-schema.org/draft/2020-12/schema"
        generated["title"] = cls.title
        return json.dumps(generated, indent=2, ensure_ascii=False) + "\n"

    @classmethod
    def published_schema(cls) -> dict[str, Any]:
        """The JSON Schema as shipped with the package."""
        package, name = cls.published
        loaded: dict[str, Any] = json.loads(files(package).joinpath(name).read_text(encoding="utf-8"))
        return loaded
