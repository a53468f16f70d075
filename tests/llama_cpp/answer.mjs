// Asks GGUF models in llama.cpp: one JSON object on standard input, one on standard output.
//
// { runtime, models: [{ file, texts: [text], prompts: [[id]], tokens }] }
//   -> [{ texts: [[id]], answers: [[id]], context }]
//
// `texts` are tokenised, special tokens read as such; `prompts` are continued greedily by up to `tokens` tokens.
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
    for (const prompt of prompts) {
        await sequence.clearHistory();
        const answer = [];
        for await (const token of sequence.evaluate(prompt, {temperature: 0, yieldEogToken: true})) {
            answer.push(token);
            if (answer.length === tokens || model.isEogToken(token)) break;
        }
        answers.push(answer);
    }
    told.push({texts: texts.map((text) => [...model.tokenize(text, true)]), answers, context: model.trainContextSize});
    await model.dispose();
}
await llama.dispose();
process.stdout.write(JSON.stringify(told));
