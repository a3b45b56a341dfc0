// Fields of the OpenAI and vLLM APIs that this server lacks. Asking for one is an error that names it, since an ignored
// `tools` or `response_format` gives answers that look right and are not; the value that asks for nothing is let through.
import { invalidArgument } from '../errors/service-error.js';

type Harmless = (value: unknown) => boolean;

const never: Harmless = () => false;
const anything: Harmless = () => true;
const nothing: Harmless = (value) => value === false || (Array.isArray(value) && value.length === 0);
const oneOf =
  (...values: unknown[]): Harmless =>
  (value) =>
    values.includes(value);

function plainText(value: unknown): boolean {
  return typeof value === 'object' && value !== null && (value as { type?: unknown }).type === 'text';
}

const FIELDS: Readonly<Record<string, Harmless>> = {
  // Said about the request, not asked of the model.
  user: anything,
  metadata: anything,
  safety_identifier: anything,
  prompt_cache_key: anything,
  prompt_cache_retention: anything,
  parallel_tool_calls: anything,
  service_tier: anything,
  store: oneOf(false),
  // Output other than text.
  audio: never,
  modalities: (value) => Array.isArray(value) && value.every((entry) => entry === 'text'),
  response_format: plainText,
  prediction: never,
  verbosity: oneOf('medium'),
  reasoning_effort: oneOf('none'),
  // Tools.
  tools: nothing,
  tool_choice: oneOf('none', 'auto'),
  functions: nothing,
  function_call: oneOf('none', 'auto'),
  web_search_options: never,
  // vLLM: constraints, beams and other treatment of the text.
  guided_json: never,
  guided_regex: never,
  guided_choice: never,
  guided_grammar: never,
  structured_outputs: never,
  use_beam_search: oneOf(false),
  length_penalty: oneOf(1),
  early_stopping: oneOf(false),
  include_stop_str_in_output: oneOf(false),
  skip_special_tokens: oneOf(true),
  spaces_between_special_tokens: oneOf(true),
  truncate_prompt_tokens: never,
  prompt_logprobs: never,
  bad_words: nothing,
  allowed_token_ids: never,
  logits_processors: nothing,
  chat_template: never,
  chat_template_kwargs: never,
  documents: nothing,
  mm_processor_kwargs: never,
  priority: oneOf(0),
  suffix: oneOf(''),
};

/** The body without the fields above. Throws INVALID_ARGUMENT naming the first that asks for what is not here. */
export function withoutUnsupported(body: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const rest = Object.entries(body).filter(([field, value]) => {
    const harmless = Object.hasOwn(FIELDS, field) ? FIELDS[field] : undefined;
    if (harmless === undefined) return true;
    if (value === null || harmless(value)) return false;
    throw invalidArgument(
      field,
      `${field} asks for something this server does not support; leave it out.`,
      'unsupported_parameter',
    );
  });
  return Object.fromEntries(rest);
}
