"""The report's words, one file for each language: ``en.toml``, ``de.toml``. Every key stands in all of them."""

from koinon.fairness.words.language import LANGUAGES, ReportLanguage, Words, words_in

__all__ = ["LANGUAGES", "ReportLanguage", "Words", "words_in"]
