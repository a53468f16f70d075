// Asks GGUF models in llama.cpp: one JSON object on standard input, one on standard output.
//
// { runtime, models: [{ file, texts: [text], prompts: [[id]], tokens }] }
//   -> [{ texts: [[id]], answers: [[id]], next: [[probability]] }]
//
// `texts` are tokenised, special tokens read as such; `prompts` are continued greedily by up to `tokens` tokens. `next` has the
// distribution behind each prompt, by id, where only one token is asked for.
import {readFileSync} from "node:fs";
import {pathToFileURL} from "node:url";

const asked = JSON.parse(readFileSync(0, "utf8"));
const {getLlama, LlamaLogLevel} = await import(pathToFileURL(asked.runtime).href);
const llama = await getLlama({build: "never", gpu: false, logLevel: LlamaLogLevel.error});
const told = [];
for (const {file, texts, prompts, tokens} of asked.models) {
    const model = await llama.loadModel({modelPath: file});
    const context = await model.createContext({contextSize: 512, threads: 1});
    const sequence = context.getSequence();
    const answers = [];
    const next = [];
    for (const prompt of prompts) {
        await sequence.clearHistory();
        const answer = [];
        const steps = sequence.evaluateWithMetadata(
            prompt, {probabilities: tokens === 1}, {temperature: 0, yieldEogToken: true}
        );
        for await (const {token, probabilities} of steps) {
            answer.push(token);
            if (probabilities) next.push([...probabilities].sort(([a], [b]) => a - b).map(([id, p]) => p));
            if (answer.length === tokens || model.isEogToken(token)) break;
        }
        answers.push(answer);
    }
    told.push({texts: texts.map((text) => [...model.tokenize(text, true)]), answers, next});
    await model.dispose();
}
await llama.dispose();
process.stdout.write(JSON.stringify(told));
