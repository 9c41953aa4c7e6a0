"""pygit2: a repository is made, changed and read."""

import pathlib
import time

import pygit2

repository = pygit2.init_repository("here")
parents = []
for number in range(3):
    pathlib.Path("here/file").write_text(f"{number} {time.time()}\n")
    author = pygit2.Signature("A", "a@example.org", int(time.time()), 0)
    repository.index.add("file")
    repository.index.write()
    tree = repository.index.write_tree()
    parents = [repository.create_commit("HEAD", author, author, f"commit {number}", tree, parents)]
print([(commit.message, str(commit.id)) for commit in repository.walk(repository.head.target)], repository.status())
print(repository.diff("HEAD~1", "HEAD").patch)
