"""tokenizers: a vocabulary is trained, and texts are divided, by threads of rayon's, which wake who waits for them."""

import random

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

words = ["".join(random.choice("abcde") for _ in range(6)) for _ in range(2000)]
tokenizer = Tokenizer(models.BPE(unk_token="[UNK]"))
tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
tokenizer.train_from_iterator(words, trainers.BpeTrainer(vocab_size=300, special_tokens=["[UNK]"], show_progress=False))
print(tokenizer.encode("abcab edcba").tokens, tokenizer.get_vocab_size())
for encoded in tokenizer.encode_batch([" ".join(words[k : k + 5]) for k in range(0, 200, 5)]):
    print(*encoded.ids)
