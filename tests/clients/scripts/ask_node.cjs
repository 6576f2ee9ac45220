// The openai SDK for Node asks a server; what it got is printed as JSON.
// Usage: node ask_node.cjs ADDRESS SPEAKER CALLER

const OpenAI = require("openai");

const messages = [{ role: "user", content: "Which colour has box 3?" }];
const tools = [
  {
    type: "function",
    function: {
      name: "weather",
      description: "The weather of a city",
      parameters: {
        type: "object",
        properties: { city: { type: "string" } },
        required: ["city"],
      },
    },
  },
];

async function errorOf(asking) {
  try {
    await asking;
    return null;
  } catch (error) {
    return { name: error.constructor.name, status: error.status, message: error.message };
  }
}

async function main([address, speaker, caller]) {
  const client = new OpenAI({ baseURL: address, apiKey: "none", maxRetries: 0, timeout: 60_000 });
  const found = { version: require("openai/version").VERSION };
  found.models = (await client.models.list()).data.map((model) => model.id);

  const asked = { model: speaker, messages, temperature: 0 };
  const { data: whole, response } = await client.chat.completions.create(asked).withResponse();
  found.whole = whole.choices[0].message.content;
  found.model = whole.model;
  found.finish_reason = whole.choices[0].finish_reason;
  found.variant = response.headers.get("x-kamerton-variant");
  found.request_id = whole._request_id;

  found.stream = [];
  found.stream_tokens = [];
  const options = { stream: true, stream_options: { include_usage: true } };
  for await (const chunk of await client.chat.completions.create({ ...asked, ...options })) {
    found.stream.push(chunk.choices[0]?.delta?.content ?? "");
    if (chunk.usage) found.stream_tokens.push(chunk.usage.completion_tokens);
  }
  // The helper that puts the pieces of a stream together.
  const calling = { model: caller, messages, tools, temperature: 0, max_tokens: 60 };
  const gathered = await client.chat.completions.stream(calling).finalChatCompletion();
  const { choices } = await client.chat.completions.create(calling);
  found.calls = [choices[0], gathered.choices[0]].map(({ message, finish_reason }) => ({
    name: message.tool_calls[0].function.name,
    arguments: JSON.parse(message.tool_calls[0].function.arguments),
    finish_reason,
  }));

  const vectors = await client.embeddings.create({ model: speaker, input: ["one", "two"] });
  found.vectors = vectors.data.map((each) => each.embedding.length);

  found.errors = {
    unknown: await errorOf(client.chat.completions.create({ ...asked, model: "nobody" })),
    wrong: await errorOf(client.chat.completions.create({ ...asked, temperature: -1 })),
  };
  // A stream that is left early: its connection is closed, and the client goes on.
  const stream = await client.chat.completions.create({ ...asked, stream: true });
  for await (const chunk of stream) {
    found.left_at = chunk.choices[0].index;
    break;
  }
  found.after_leaving = (await client.chat.completions.create(asked)).choices[0].message.content;
  console.log(JSON.stringify(found));
}

main(process.argv.slice(2));
