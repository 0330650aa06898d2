# ruff: noqa: E501
"""Writes chat.json, what transformers (5.24) makes of conversations by templates like those of well-known models."""

import json
from pathlib import Path

from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

TEMPLATES = {
    "llama 2": """{% if messages[0]['role'] == 'system' %}
{% set first = '<<SYS>>\\n' + messages[0]['content'] | trim + '\\n<</SYS>>\\n\\n' %}
{% set rest = messages[1:] %}
{% else %}{% set first = '' %}{% set rest = messages %}{% endif %}
{% for m in rest %}
  {% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}
    {{ raise_exception('user and assistant must take turns') }}
  {% endif %}
  {% if m['role'] == 'user' %}{{ bos_token + '[INST] ' + (first if loop.first else '') + m['content'].strip() + ' [/INST]' }}
  {% else %}{{ ' ' + m['content'] + ' ' + eos_token }}{% endif %}
{% endfor %}""",
    "llama 3": """{{- bos_token }}
{%- if not date_string is defined %}{%- set date_string = strftime_now("%Y") | length ~ " digits" %}{% endif %}
{{- "<|head|>system<|/head|>\\n\\nToday: " + date_string + "\\n\\n" }}
{%- if tools is not none %}{% for tool in tools %}{{ tool | tojson(indent=4) }}{% endfor %}{% endif %}
{%- for m in messages %}
    {{- '<|head|>' + m['role'] + '<|/head|>\\n\\n' + m['content'] | trim + '<|eot|>' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|head|>assistant<|/head|>\\n\\n' }}
{%- endif %}""",
    "qwen": """{%- set ns = namespace(last=-1) %}
{%- for m in messages[::-1] %}
    {%- if ns.last < 0 and m.role == 'user' %}{%- set ns.last = messages | length - 1 - loop.index0 %}{%- endif %}
{%- endfor %}
{%- if tools %}{{- '<tools>\\n' }}{%- for tool in tools %}{{- tool | tojson + '\\n' }}{%- endfor %}{{- '</tools>' }}{%- endif %}
{%- for m in messages %}
    {%- set text = m.content %}
    {%- if m.role == 'assistant' and '</think>' in text and loop.index0 < ns.last %}
        {%- set text = text.split('</think>')[-1].lstrip('\\n') %}
    {%- endif %}
    {{- '<|im_start|>' + m.role + '\\n' + text + '<|im_end|>\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}
    {%- if enable_thinking is defined and enable_thinking is false %}{{- '<think>\\n\\n</think>\\n\\n' }}{%- endif %}
{%- endif %}""",
    "gemma": """{{ bos_token }}
{%- if messages[0].role == 'system' -%}
    {%- set before = messages[0].content + '\\n\\n' -%}{%- set messages = messages[1:] -%}
{%- else -%}{%- set before = '' -%}{%- endif -%}
{%- for m in messages -%}
    {%- if (m.role == 'user') != (loop.index0 % 2 == 0) -%}{{ raise_exception("turns") }}{%- endif -%}
    {{ '<turn>' + ('model' if m.role == 'assistant' else m.role) + '\\n' + (before if loop.first else '') }}
    {%- if m.content is string -%}{{ m.content | trim }}
    {%- else -%}{%- for part in m.content if part.type == 'text' -%}{{ part.text | trim }}{%- endfor -%}{%- endif -%}
    {{ '<end>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}{{ '<turn>model\\n' }}{%- endif -%}""",
    "generation": """{% for m in messages %}{% if m.role == 'assistant' %}{% generation %}{{ m.content + eos_token }}{% endgeneration %}
{% elif m.role == 'skip' %}{% continue %}
{% else %}{{ '[' + m.role + ']' + m.content }}{% endif %}{% endfor %}""",
}
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "Of a <place> & day, née Wetter"}}]
CHATS = [
    [{"role": "system", "content": " Be brief <ü>. "}, {"role": "user", "content": " Hi & hello! "}],
    [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "<think>\nhm\n</think>\n\nWhat's up?", "name": None},
        {"role": "user", "content": "Count\nto 3"},
    ],
    [{"role": "user", "content": "A"}, {"role": "skip", "content": "B"}],
    [{"role": "assistant", "content": "I begin"}, {"role": "user", "content": "You do"}],
    [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": " one "}]}],
]


def main() -> None:
    words = models.WordLevel({"<s>": 0, "</s>": 1, "<unk>": 2}, unk_token="<unk>")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer(words), bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    rows = []
    for name in TEMPLATES:
        for chat in CHATS:
            for more in ({}, {"add_generation_prompt": True}, {"tools": TOOLS, "enable_thinking": False}):
                try:
                    made = tokenizer.apply_chat_template(chat, chat_template=TEMPLATES[name], tokenize=False, **more)
                except Exception as error:
                    made = {"error": str(error)}
                rows.append({"template": name, "messages": chat, "more": more, "made": made})
    answers = {"templates": TEMPLATES, "rows": rows}
    Path(__file__).with_name("chat.json").write_text(json.dumps(answers, ensure_ascii=False, indent=1) + "\n")


if __name__ == "__main__":
    main()
