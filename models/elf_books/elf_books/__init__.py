"""A small ELF model of English books, in the folder `model`: `ELF.from_pretrained("elf_books")`."""
