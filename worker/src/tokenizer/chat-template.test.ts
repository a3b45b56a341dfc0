import assert from 'node:assert/strict';
import { ChatPrompt } from '@spotlight/proto';
import { ChatTemplate } from './chat-template.js';
import { PromptError, TokenizerError } from './errors.js';
import { definitionFromGguf } from './from-gguf.js';
import { byteLevelMetadata } from './small-vocabulary.js';

const CHATML =
  "{% for message in messages %}{{'<' + message['role'] + '>' + message['content'] + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<assistant>' }}{% endif %}";

function templateOf(chatTemplate: string | undefined): ChatTemplate {
  return new ChatTemplate(definitionFromGguf(byteLevelMetadata({ chatTemplate }), 'test.gguf'));
}

function chat(parts: Partial<ChatPrompt>): ChatPrompt {
  return ChatPrompt.fromPartial({ messages: [{ role: 'user', content: 'hi' }], ...parts });
}

function fault(run: () => unknown): PromptError {
  try {
    run();
  } catch (error) {
    assert.ok(error instanceof PromptError);
    return error;
  }
  assert.fail('no PromptError');
}

describe('chat template', () => {
  it('opens the assistant turn unless told not to', () => {
    assert.equal(templateOf(CHATML).render(chat({})), '<user>hi\n<assistant>');
    assert.equal(templateOf(CHATML).render(chat({ addGenerationPrompt: false })), '<user>hi\n');
  });

  it('knows the special tokens by the names transformers gives them', () => {
    assert.equal(templateOf('{{ bos_token }}|{{ eos_token }}').render(chat({})), '<|end|>|<|end|>');
  });

  it('continues the final message where it ends', () => {
    const messages = [
      { role: 'user', content: 'hi', name: '' },
      { role: 'assistant', content: ' Once upon ', name: '' },
    ];
    const text = templateOf(CHATML).render(chat({ messages, continueFinalMessage: true }));
    assert.equal(text, '<user>hi\n<assistant> Once upon ');
    const error = fault(() =>
      templateOf(CHATML).render(chat({ messages, continueFinalMessage: true, addGenerationPrompt: true })),
    );
    assert.equal(error.field, 'continue_final_message');
  });

  it('says what is wrong: no template, no message, a refusal by the template', () => {
    assert.match(fault(() => templateOf(undefined).render(chat({}))).message, /has no chat template/);
    assert.match(
      fault(() => templateOf(CHATML).render(chat({ messages: [] }))).message,
      /at least one message/,
    );
    const strict = templateOf("{{ raise_exception('roles must alternate') }}");
    const error = fault(() => strict.render(chat({})));
    assert.match(error.message, /roles must alternate/);
    assert.equal(error.field, 'messages');
  });

  it('refuses a template that does not parse when it is made', () => {
    assert.throws(() => templateOf('{% for %}'), TokenizerError);
  });
});
