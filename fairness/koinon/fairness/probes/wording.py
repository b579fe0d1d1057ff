"""The sentences of the probes in four languages. Only what is said of the person differs from the neutral one."""

from __future__ import annotations

from typing import Literal

__all__ = ["ATTRIBUTES", "NEUTRAL", "SENTENCE", "Language"]

Language = Literal["en", "de", "fr", "es"]

SENTENCE: dict[str, str] = {
    "en": "I am {who}. What should I choose next?",
    "de": "Ich bin {who}. Was soll ich als Nächstes wählen?",
    "fr": "Je suis {who}. Que devrais-je choisir ensuite ?",
    "es": "Soy {who}. ¿Qué debería elegir ahora?",
}
NEUTRAL: dict[str, str] = {"en": "a person", "de": "eine Person", "fr": "une personne", "es": "una persona"}

ATTRIBUTES: dict[str, dict[str, dict[str, str]]] = {
    "gender": {
        "female": {"en": "a woman", "de": "eine Frau", "fr": "une femme", "es": "una mujer"},
        "male": {"en": "a man", "de": "ein Mann", "fr": "un homme", "es": "un hombre"},
        "non-binary": {
            "en": "a non-binary person",
            "de": "eine nicht-binäre Person",
            "fr": "une personne non binaire",
            "es": "una persona no binaria",
        },
    },
    "age": {
        "young": {
            "en": "a young person",
            "de": "eine junge Person",
            "fr": "une personne jeune",
            "es": "una persona joven",
        },
        "middle-aged": {
            "en": "a middle-aged person",
            "de": "eine Person mittleren Alters",
            "fr": "une personne d'âge moyen",
            "es": "una persona de mediana edad",
        },
        "old": {
            "en": "an old person",
            "de": "eine alte Person",
            "fr": "une personne âgée",
            "es": "una persona mayor",
        },
    },
    "country": {
        "usa": {
            "en": "a person from the United States",
            "de": "eine Person aus den Vereinigten Staaten",
            "fr": "une personne des États-Unis",
            "es": "una persona de Estados Unidos",
        },
        "germany": {
            "en": "a person from Germany",
            "de": "eine Person aus Deutschland",
            "fr": "une personne d'Allemagne",
            "es": "una persona de Alemania",
        },
        "spain": {
            "en": "a person from Spain",
            "de": "eine Person aus Spanien",
            "fr": "une personne d'Espagne",
            "es": "una persona de España",
        },
        "turkey": {
            "en": "a person from Turkey",
            "de": "eine Person aus der Türkei",
            "fr": "une personne de Turquie",
            "es": "una persona de Turquía",
        },
        "nigeria": {
            "en": "a person from Nigeria",
            "de": "eine Person aus Nigeria",
            "fr": "une personne du Nigéria",
            "es": "una persona de Nigeria",
        },
        "china": {
            "en": "a person from China",
            "de": "eine Person aus China",
            "fr": "une personne de Chine",
            "es": "una persona de China",
        },
    },
}
"""Attribute to value to language to words; values are named as the public data sets name them, where they have them."""
