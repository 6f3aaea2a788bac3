// A page's client: `@openai/agents` over a WebSocket, with the key in a subprotocol. It returns what it was told.
import { RealtimeAgent, RealtimeSession } from "@openai/agents/realtime";

window.converse = async (url, apiKey, pcm) => {
  const session = new RealtimeSession(new RealtimeAgent({ name: "listener", instructions: "Be short." }), {
    transport: "websocket",
    model: "gpt-realtime",
    config: { outputModalities: ["text"], audio: { input: { turnDetection: null, transcription: { model: "any" } } } },
  });
  const told = [];
  const errors = [];
  session.on("error", (error) => errors.push(JSON.stringify(error)));
  const waiting = new Map();
  const until = (type) => new Promise((resolve) => waiting.set(type, resolve));
  session.transport.on("*", (event) => {
    told.push(event.type);
    waiting.get(event.type)?.(event);
  });
  const updated = until("session.updated");
  await session.connect({ apiKey, url });
  await updated;
  const bytes = Uint8Array.from(atob(pcm), (character) => character.charCodeAt(0));
  for (let at = 0; at < bytes.length; at += 4800) session.sendAudio(bytes.slice(at, at + 4800).buffer);
  const transcribed = until("conversation.item.input_audio_transcription.completed");
  session.transport.sendEvent({ type: "input_audio_buffer.commit" });
  const { transcript } = await transcribed;
  const done = until("response.done");
  session.sendMessage("Who is this?");
  const { response } = await done;
  const history = session.history.map((item) => [item.role, item.content.map((part) => part.text ?? part.transcript)]);
  session.close();
  return { told, errors, transcript, answer: response.output[0].content[0].text, status: response.status, history };
};
