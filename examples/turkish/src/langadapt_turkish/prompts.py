"""Prompt formats: one heading for what is asked, one for the answer; loss on answers and on the end token after each."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from langadapt import Message, PromptFormat, Segment

WITHOUT_TEXT = "Aşağıdaki yönergeyi oku ve isteneni karşılayan bir yanıt yaz."
WITH_TEXT = "Aşağıdaki yönergeyi ve yanındaki metni oku, sonra isteneni karşılayan bir yanıt yaz."

SYSTEM = (
    "Sen Türkçe konuşan bir yardımcısın. Sorulara nazik, yararlı, dürüst ve özenli yanıtlar verirsin. "
    "Kimseye zarar verebilecek bir şey yazmazsın. Bir soru anlamsızsa nedenini açıklarsın; "
    "bilmediğin bir şey sorulduğunda uydurmaz, bilmediğini söylersin."
)


def headings(asked: str, material: str, answered: str) -> Callable[[Sequence[Message], str], Iterable[Segment]]:
    """A rendering with these headings; what comes first is the system prompt, or else what a format without one says."""

    def render(messages: Sequence[Message], system_prompt: str) -> Iterable[Segment]:
        yield Segment(special="bos")
        opening = next((m.content for m in messages if m.role == "system"), system_prompt)
        for place, message in enumerate(m for m in messages if m.role != "system"):
            if message.role == "user":
                start = "" if place else opening or (WITH_TEXT if message.context else WITHOUT_TEXT)
                given = f"\n\n### {material}:\n{message.context}" if message.context else ""
                yield Segment(text=f"{start}\n\n### {asked}:\n{message.content}{given}\n\n### {answered}:\n")
            else:
                yield Segment(text=message.content, loss=True)
                yield Segment(special="eos", loss=True)

    return render


FORMATS = (
    PromptFormat(
        name="talimat-tr",
        description="Instructions with Turkish headings.",
        render=headings("Yönerge", "Metin", "Yanıt"),
    ),
    PromptFormat(
        name="sohbet-tr",
        description="Dialogues with Turkish headings and a system prompt.",
        render=headings("Kullanıcı", "Metin", "Yardımcı"),
        system_prompt=SYSTEM,
    ),
)
