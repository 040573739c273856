// SPDX-License-Identifier: AGPL-3.0-or-later
pragma solidity ^0.8.28;

import {IAccessCredentialNFT} from "./interfaces/IAccessCredentialNFT.sol";
import {DataContracts} from "./lib/DataContracts.sol";
import {Ownable, Ownable2Step} from "@openzeppelin/contracts/access/Ownable2Step.sol";
import {IERC165} from "@openzeppelin/contracts/interfaces/IERC165.sol";
import {IERC4906} from "@openzeppelin/contracts/interfaces/IERC4906.sol";
import {ERC721} from "@openzeppelin/contracts/token/ERC721/ERC721.sol";
import {
    ERC721Enumerable,
    IERC721Enumerable
} from "@openzeppelin/contracts/token/ERC721/extensions/ERC721Enumerable.sol";
import {Base64} from "@openzeppelin/contracts/utils/Base64.sol";
import {Bytes} from "@openzeppelin/contracts/utils/Bytes.sol";
import {Strings} from "@openzeppelin/contracts/utils/Strings.sol";

/// @title The tokens of one host: whoever holds one has access to its machine. See IAccessCredentialNFT.
/// @notice The contract's owner is the host operator. Brokers lease IPv6 space to the contract and recognise the operator
/// by `owner()`.
/// @dev A token's bytes and texts are the code of one small contract, and the rest of it one word: a mint of usual size costs
/// under 250,000 gas. As ids only grow and nothing is burnt, the list of all tokens needs no storage.
contract AccessCredentialNFT is IAccessCredentialNFT, ERC721, IERC721Enumerable, IERC4906, Ownable2Step {
    /// @dev `dataNonce` names the contract that holds the texts; `position` is the token's place among its holder's.
    struct Credential {
        uint32 dataNonce;
        uint40 issuedAt;
        uint40 expiresAt;
        uint64 position;
    }

    /// @dev What is kept as code: the five lengths, two bytes each, then the five one after the other.
    struct Texts {
        bytes userEncrypted;
        bytes publicSecret;
        bytes description;
        bytes imageUri;
        bytes animationUrl;
    }

    uint256 private constant LENGTHS_SIZE = 5 * 2;

    // These three share a word.
    /// @inheritdoc IAccessCredentialNFT
    address public minter;
    uint64 private _count;
    uint32 private _dataNonce;

    /// @inheritdoc IAccessCredentialNFT
    string public defaultImageUri;
    mapping(uint256 tokenId => Credential) private _credentials;
    mapping(address holder => mapping(uint256 position => uint256 tokenId)) private _held;

    modifier onlyMinter() {
        if (msg.sender != minter && msg.sender != owner()) revert NotMinter(msg.sender);
        _;
    }

    constructor(string memory name_, string memory symbol_, string memory defaultImageUri_)
        ERC721(name_, symbol_)
        Ownable(msg.sender)
    {
        defaultImageUri = defaultImageUri_;
    }

    /// @inheritdoc IAccessCredentialNFT
    function mint(
        address to,
        bytes memory userEncrypted,
        string memory publicSecret,
        string memory description,
        string memory imageUri,
        string memory animationUrlBase64,
        uint256 expiresAt
    ) external onlyMinter returns (uint256 tokenId) {
        Texts memory texts = Texts({
            userEncrypted: userEncrypted,
            publicSecret: bytes(publicSecret),
            description: bytes(description),
            imageUri: bytes(imageUri),
            animationUrl: bytes(animationUrlBase64)
        });
        return _mintCredential(to, texts, expiresAt);
    }

    /// @inheritdoc IAccessCredentialNFT
    function mintBatch(
        address[] memory recipients,
        bytes[] memory userEncrypted,
        string[] memory publicSecrets,
        string[] memory descriptions,
        string[] memory imageUris,
        string[] memory animationUrlsBase64,
        uint256[] memory expiresAt
    ) external onlyMinter returns (uint256[] memory tokenIds) {
        bool sameLength = recipients.length == userEncrypted.length && recipients.length == publicSecrets.length
            && recipients.length == descriptions.length && recipients.length == imageUris.length
            && recipients.length == animationUrlsBase64.length && recipients.length == expiresAt.length;
        require(sameLength, "Array length mismatch");
        tokenIds = new uint256[](recipients.length);
        for (uint256 i = 0; i < tokenIds.length; i++) {
            Texts memory texts;
            texts.userEncrypted = userEncrypted[i];
            texts.publicSecret = bytes(publicSecrets[i]);
            texts.description = bytes(descriptions[i]);
            texts.imageUri = bytes(imageUris[i]);
            texts.animationUrl = bytes(animationUrlsBase64[i]);
            tokenIds[i] = _mintCredential(recipients[i], texts, expiresAt[i]);
        }
    }

    /// @inheritdoc IAccessCredentialNFT
    function updateUserEncrypted(uint256 tokenId, bytes memory userEncrypted) external onlyMinter {
        Texts memory texts = _texts(tokenId);
        texts.userEncrypted = userEncrypted;
        _replaceTexts(tokenId, texts);
    }

    /// @inheritdoc IAccessCredentialNFT
    function updateExpiration(uint256 tokenId, uint256 expiresAt) external onlyMinter {
        _credential(tokenId).expiresAt = _checkExpiry(expiresAt);
        emit CredentialUpdated(tokenId);
        emit MetadataUpdate(tokenId);
    }

    /// @inheritdoc IAccessCredentialNFT
    function updateAnimationUrl(uint256 tokenId, string memory animationUrlBase64) external onlyOwner {
        Texts memory texts = _texts(tokenId);
        texts.animationUrl = bytes(animationUrlBase64);
        _replaceTexts(tokenId, texts);
    }

    /// @inheritdoc IAccessCredentialNFT
    function setDefaultImageUri(string memory imageUri) external onlyOwner {
        defaultImageUri = imageUri;
        if (_count != 0) emit BatchMetadataUpdate(0, _count - 1);
    }

    /// @inheritdoc IAccessCredentialNFT
    function setMinter(address minter_) external onlyOwner {
        emit MinterChanged(minter, minter_);
        minter = minter_;
    }

    /// @notice Always reverts with OwnerRequired: without an owner no broker would recognise the host.
    function renounceOwnership() public view override onlyOwner {
        revert OwnerRequired();
    }

    /// @inheritdoc IAccessCredentialNFT
    function getAccessData(uint256 tokenId)
        external
        view
        returns (bytes memory userEncrypted, string memory publicSecret, uint256 issuedAt, uint256 expiresAt)
    {
        Credential memory credential = _credential(tokenId);
        Texts memory texts = _texts(tokenId);
        return (texts.userEncrypted, string(texts.publicSecret), credential.issuedAt, credential.expiresAt);
    }

    /// @inheritdoc IAccessCredentialNFT
    function isExpired(uint256 tokenId) external view returns (bool) {
        uint256 expiresAt = _credential(tokenId).expiresAt;
        return expiresAt != 0 && block.timestamp > expiresAt;
    }

    /// @inheritdoc IERC721Enumerable
    function totalSupply() external view returns (uint256) {
        return _count;
    }

    /// @inheritdoc IERC721Enumerable
    function tokenByIndex(uint256 index) external view returns (uint256) {
        if (index >= _count) revert ERC721Enumerable.ERC721OutOfBoundsIndex(address(0), index);
        return index;
    }

    /// @inheritdoc IERC721Enumerable
    function tokenOfOwnerByIndex(address holder, uint256 index) external view returns (uint256) {
        if (index >= balanceOf(holder)) revert ERC721Enumerable.ERC721OutOfBoundsIndex(holder, index);
        return _held[holder][index];
    }

    /// @notice The token's metadata as a data: URI of JSON: name, description, image, animation_url, attributes, and
    /// `access: {user_encrypted: "0x...", public_secret}`.
    function tokenURI(uint256 tokenId) public view override returns (string memory) {
        Credential memory credential = _credential(tokenId);
        Texts memory texts = _texts(tokenId);
        bytes memory image = texts.imageUri.length == 0 ? bytes(defaultImageUri) : texts.imageUri;
        bytes memory json = bytes.concat(
            '{"name":"Access Credential #',
            bytes(Strings.toString(tokenId)),
            '","description":"',
            _escape(texts.description),
            _optional('","image":"', _escape(image)),
            _optional('","animation_url":"data:text/html;base64,', _escape(texts.animationUrl)),
            '","attributes":',
            _attributes(credential),
            ',"access":{"user_encrypted":"',
            bytes(Strings.toHexString(texts.userEncrypted)),
            '","public_secret":"',
            _escape(texts.publicSecret),
            '"}}'
        );
        return string.concat("data:application/json;base64,", Base64.encode(json));
    }

    /// @notice ERC-165, ERC-721 with metadata and enumeration, ERC-4906.
    function supportsInterface(bytes4 interfaceId) public view override(ERC721, IERC165) returns (bool) {
        return interfaceId == type(IERC721Enumerable).interfaceId || interfaceId == bytes4(0x49064906)
            || super.supportsInterface(interfaceId);
    }

    /// @dev Not _safeMint: a wallet that paid must not be left without its token because it lacks a function.
    function _mintCredential(address to, Texts memory texts, uint256 expiresAt) private returns (uint256 tokenId) {
        tokenId = _count++;
        Credential storage credential = _credentials[tokenId];
        credential.dataNonce = _store(texts);
        credential.issuedAt = uint40(block.timestamp);
        credential.expiresAt = _checkExpiry(expiresAt);
        _mint(to, tokenId);
        emit CredentialMinted(tokenId, to, block.timestamp, expiresAt);
    }

    function _replaceTexts(uint256 tokenId, Texts memory texts) private {
        _credentials[tokenId].dataNonce = _store(texts);
        emit CredentialUpdated(tokenId);
        emit MetadataUpdate(tokenId);
    }

    /// @dev Keeps the lists of who holds what.
    function _update(address to, uint256 tokenId, address auth) internal override returns (address from) {
        from = super._update(to, tokenId, auth);
        if (from == to) return from;
        Credential storage credential = _credentials[tokenId];
        if (from != address(0)) {
            // The holder's last token takes the place of the one that leaves.
            uint256 last = balanceOf(from);
            uint256 lastId = _held[from][last];
            _held[from][credential.position] = lastId;
            _credentials[lastId].position = credential.position;
            delete _held[from][last];
        }
        uint256 position = balanceOf(to) - 1;
        credential.position = uint64(position);
        _held[to][position] = tokenId;
    }

    /// @dev Creates the contract that holds the texts; DataContracts bounds their length, so no length is cut.
    function _store(Texts memory texts) private returns (uint32 nonce) {
        DataContracts.store(
            bytes.concat(
                bytes2(uint16(texts.userEncrypted.length)),
                bytes2(uint16(texts.publicSecret.length)),
                bytes2(uint16(texts.description.length)),
                bytes2(uint16(texts.imageUri.length)),
                bytes2(uint16(texts.animationUrl.length)),
                texts.userEncrypted,
                texts.publicSecret,
                texts.description,
                texts.imageUri,
                texts.animationUrl
            )
        );
        return ++_dataNonce;
    }

    function _texts(uint256 tokenId) private view returns (Texts memory texts) {
        address holder = DataContracts.addressOf(address(this), _credential(tokenId).dataNonce);
        bytes memory data = DataContracts.read(holder, 0, DataContracts.lengthOf(holder));
        uint256 start = LENGTHS_SIZE;
        (texts.userEncrypted, start) = _text(data, 0, start);
        (texts.publicSecret, start) = _text(data, 1, start);
        (texts.description, start) = _text(data, 2, start);
        (texts.imageUri, start) = _text(data, 3, start);
        (texts.animationUrl,) = _text(data, 4, start);
    }

    /// @dev The text of the `index`th length, which begins at `start`, and where the next one does.
    function _text(bytes memory data, uint256 index, uint256 start) private pure returns (bytes memory, uint256 end) {
        end = start + (uint256(uint8(data[2 * index])) << 8 | uint8(data[2 * index + 1]));
        return (Bytes.slice(data, start, end), end);
    }

    function _credential(uint256 tokenId) private view returns (Credential storage) {
        require(tokenId < _count, "Token does not exist");
        return _credentials[tokenId];
    }

    function _checkExpiry(uint256 expiresAt) private pure returns (uint40) {
        if (expiresAt > type(uint40).max) revert ExpiryTooFar(expiresAt, type(uint40).max);
        return uint40(expiresAt);
    }

    function _attributes(Credential memory credential) private pure returns (bytes memory) {
        return bytes.concat(
            '[{"trait_type":"Type","value":"Access Credential"}',
            _date("Issued", credential.issuedAt),
            credential.expiresAt == 0 ? bytes("") : _date("Expires", credential.expiresAt),
            "]"
        );
    }

    function _date(string memory name, uint256 time) private pure returns (bytes memory) {
        return
            abi.encodePacked(',{"display_type":"date","trait_type":"', name, '","value":', Strings.toString(time), "}");
    }

    /// @dev Nothing, if there is no value.
    function _optional(bytes memory before, bytes memory value) private pure returns (bytes memory) {
        return value.length == 0 ? bytes("") : bytes.concat(before, value);
    }

    function _escape(bytes memory text) private pure returns (bytes memory) {
        return bytes(Strings.escapeJSON(string(text)));
    }
}
